"""Shapes and types of the package's arguments and results, checked at each call while tests run.

The import hook of jaxtyping puts ``jaxtyping.jaxtyped`` on every function.  As it comes, that binds
each call's arguments to a signature and checks them twice, a quarter of the trainer's tests' time.
Here a function without a shape among its annotations gets the type checker alone, and one with
shapes gets it in a scope for the names of its dimensions.  A function within a function is made
anew by each call of the outer one, and its checks with it, so that it has them only with shapes.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from jaxtyping import AbstractArray, install_import_hook

#: is_pep484_tower: an int will do for a float.
TYPE_CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"

_original = jaxtyping.jaxtyped


def install(package: str) -> None:
    """Check what the modules of a package are called with, of those that are imported from now on.

    Args:
        package: name of the package; none of it may have been imported.
    """
    jaxtyping.jaxtyped = _jaxtyped  # what the hook's decorators call
    install_import_hook(package, TYPE_CHECKER)


def _jaxtyped(
    function: Any = None, *, typechecker: Callable[[Any], Any] | None = None
) -> Callable[..., Any]:
    if function is None:
        return functools.partial(_jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(function) or _runs_later(function):
        return _original(function, typechecker=typechecker)
    if "<locals>" in function.__qualname__ and not any(
        _may_have_shape(annotation) for annotation in function.__annotations__.values()
    ):
        return function
    function.__annotations__ = {
        name: _resolved(annotation, function.__globals__)
        for name, annotation in function.__annotations__.items()
    }
    checked = typechecker(function)
    if checked is function:  # nothing is annotated
        return function
    with_shapes = any(_has_shape(hint) for hint in function.__annotations__.values())
    config, scope = jaxtyping.config, _original("context")

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        if not with_shapes:
            return checked(*args, **kwargs)
        with scope:
            return checked(*args, **kwargs)

    return wrapped


def _runs_later(function: Callable[..., Any]) -> bool:
    """Whether a call only makes a generator or the like, whose body runs when others have."""
    return (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    )


def _resolved(annotation: Any, names: dict[str, Any]) -> Any:
    """The type that an annotation names; any, where it names one that is not there (yet)."""
    holder = type("holder", (), {"__annotations__": {"value": annotation}})
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["value"]
    except Exception:  # whatever evaluating a string may raise
        return Any


def _may_have_shape(annotation: Any) -> bool:
    """Whether it has a shape, or is a string with one, which is a string within the string."""
    if isinstance(annotation, str):
        return '"' in annotation or "'" in annotation
    return _has_shape(annotation)


def _has_shape(hint: Any) -> bool:
    if inspect.isclass(hint) and issubclass(hint, AbstractArray):
        return True
    arguments = hint if isinstance(hint, list) else typing.get_args(hint)  # list: of a Callable
    return any(_has_shape(argument) for argument in arguments)
