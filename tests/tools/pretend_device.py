"""A second device for tests without a GPU: tensors that say they are elsewhere and carry CPU data.

Inside `pretend_device()` the device ``meta`` behaves as CUDA would: ``x.to("meta")`` is there,
``.cpu()`` brings the numbers back, and an operation on tensors of two devices raises.  The numbers
are computed on the CPU, so they must be the CPU's to the last bit.

torch's real meta tensors have no numbers; one that is made past us raises as soon as it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["NAME", "PretendTensor", "TwoDevices", "pretend_device"]

NAME = "meta"
_DEVICE = torch.device(NAME)
#: Operations that answer with a plain value, wherever their tensors are.
_PLAIN_ANSWERS = ("aten::_local_scalar_dense", "aten::equal", "aten::is_same_size")
#: Indices may be on the CPU, on CUDA too.
_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
_TRANSFERS = ("aten::_to_copy", "aten::to")
_NOT_FOR_THE_CPU = ("device", "layout", "pin_memory", "non_blocking")


class TwoDevices(RuntimeError):
    """An operation on tensors of two devices, which CUDA would refuse."""


class PretendTensor(torch.Tensor):
    """A tensor on the pretend device; ``hidden`` has its numbers."""

    hidden: torch.Tensor

    @staticmethod
    def __new__(cls, hidden: torch.Tensor) -> PretendTensor:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            hidden.shape,
            strides=hidden.stride(),
            storage_offset=hidden.storage_offset(),
            dtype=hidden.dtype,
            device=_DEVICE,
        )

    def __init__(self, hidden: torch.Tensor) -> None:
        self.hidden = hidden

    def __repr__(self) -> str:
        return f"PretendTensor({self.hidden})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.tolist:
            return args[0].hidden.detach().tolist()
        if func is torch.Tensor.backward:
            return _run_backward((args[0],), accumulate=True)
        if func is torch.autograd.grad:  # torch's own would look for the real device
            return _gradient(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            return func(*_plain_indices(func, args), **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


def _run_backward(outputs: Any, gradients: Any = None, inputs: Any = (), **options: Any) -> Any:
    """torch's engine, called past the checks that a tensor which only pretends would not pass."""
    gradients = gradients or tuple(torch.ones_like(output) for output in outputs)
    accumulate = options.get("accumulate", False)
    keep = options.get("retain_graph", False)
    return torch.autograd.Variable._execution_engine.run_backward(
        outputs,
        gradients,
        keep,
        options.get("create_graph", False),
        inputs,
        allow_unreachable=accumulate or options.get("allow_unused", False),
        accumulate_grad=accumulate,
    )


def _gradient(outputs: Any, inputs: Any, grad_outputs: Any = None, **options: Any) -> Any:
    """`torch.autograd.grad`."""
    outputs, inputs = (
        (given,) if isinstance(given, torch.Tensor) else tuple(given) for given in (outputs, inputs)
    )
    if isinstance(grad_outputs, torch.Tensor):
        grad_outputs = (grad_outputs,)
    create = bool(options.get("create_graph"))
    retain = options.get("retain_graph")
    return _run_backward(
        outputs,
        grad_outputs,
        inputs,
        create_graph=create,
        retain_graph=create if retain is None else retain,
        allow_unused=bool(options.get("allow_unused")),
    )


def _plain_indices(func: Any, args: Any) -> Any:
    """Lists among indices as tensors: torch would make them on the device it is told of."""
    if func not in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
        return args

    def plain(item: Any) -> Any:
        return torch.tensor(item) if isinstance(item, list) else item

    index = tuple(map(plain, args[1])) if isinstance(args[1], tuple) else plain(args[1])
    return (args[0], index, *args[2:])


def _uncovered(value: Any) -> Any:
    return value.hidden if isinstance(value, PretendTensor) else value


def _covered(value: Any) -> Any:
    plain = isinstance(value, torch.Tensor) and not isinstance(value, PretendTensor)
    return PretendTensor(value) if plain else value


def _dispatch(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """One operation of torch, with the numbers of the tensors that pretend."""
    name, target = func._schema.name, kwargs.get("device")
    if name in _TRANSFERS:
        return _transfer(func, args, kwargs)
    if name == "aten::copy_":
        func(_uncovered(args[0]), _uncovered(args[1]), *args[2:])
        return args[0]
    there = _check_devices(name, [t for t in tree_leaves((args, kwargs)) if _is_tensor(t)])
    makes_there = target is not None and torch.device(target).type == NAME
    numbers = {key: tree_map(_uncovered, value) for key, value in kwargs.items()}
    if target is not None:
        numbers["device"] = torch.device("cpu")
    result = func(*tree_map(_uncovered, args), **numbers)
    if name in _PLAIN_ANSWERS or not (there or makes_there):
        return result
    covered = tree_map(_covered, result)
    if func._schema.is_mutable:
        return return_and_correct_aliasing(func, args, kwargs, covered)
    return covered


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _transfer(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    source, target = args[0], kwargs.get("device")
    numbers = {key: value for key, value in kwargs.items() if key not in _NOT_FOR_THE_CPU}
    result = func(_uncovered(source), *args[1:], **numbers)
    where = torch.device(target).type if target is not None else source.device.type
    return PretendTensor(result) if where == NAME else result


def _check_devices(name: str, tensors: list[torch.Tensor]) -> bool:
    """Whether the operation is on the pretend device.

    Raises:
        TwoDevices: it is on both, or on a meta tensor that has no numbers.
    """
    there = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    if any(tensor.device.type == NAME for tensor in here):
        raise TwoDevices(f"{name}: a tensor without numbers, made on the device past the test")
    large = [tensor for tensor in here if tensor.dim() > 0]  # a number may come from the CPU
    if there and large and name.partition(".")[0] not in _INDEXING:
        raise TwoDevices(f"{name}: a CPU tensor of shape {tuple(large[0].shape)} meets the device")
    return bool(there)


class _Dispatch(TorchDispatchMode):
    """Operations that make a tensor on the device, with no tensor that pretends among theirs."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _dispatch(func, args, kwargs or {})


class _Factories(TorchFunctionMode):
    """`torch.tensor` and `torch.as_tensor`, which never reach the dispatcher."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        device = options.get("device")
        makes_there = device is not None and torch.device(device).type == NAME
        if func in (torch.tensor, torch.as_tensor) and makes_there:
            del options["device"]
            made = func(*args, **options)
            return made if isinstance(made, PretendTensor) else made.to(NAME)
        return func(*_plain_indices(func, args), **options)


@contextmanager
def pretend_device() -> Iterator[str]:
    """The device is there; gives its name."""
    with _Factories(), _Dispatch():
        yield NAME
