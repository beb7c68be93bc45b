"""The size and shape of the house in numbers: ``python tests/tools/house_numbers.py [FOLDER ...]``.

Each folder is a checkout; its numbers make one column, so that before and after stand side by side.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = "ase_srdft"


def lines(folder: Path) -> int:
    """Lines of all Python files below a folder."""
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


def module_paths(package: Path) -> dict[str, Path]:
    """Each module's dotted name and file."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def imports(name: str, tree: ast.Module, known: dict[str, Path]) -> Iterator[str]:
    """The package's modules that a module imports, wherever in it, but for the package itself."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [one for one in inner if one in known] or [node.module]
        else:
            continue
        yield from (one for one in found if one in known and one not in (name, PACKAGE))


def longest_chain(package: Path) -> list[str]:
    """The longest chain of imports, from the top to the bottom."""
    known = module_paths(package)
    graph = {
        name: set(imports(name, ast.parse(path.read_text(encoding="utf-8")), known))
        for name, path in known.items()
        if name != PACKAGE
    }

    @cache
    def chain(name: str) -> tuple[str, ...]:
        below = max((chain(one) for one in graph[name]), key=len, default=())
        return (name, *below)

    return list(max((chain(name) for name in graph), key=len))


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    """Lines of a body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def longest(package: Path, kinds: tuple[type, ...]) -> tuple[int, str]:
    """Body lines and place of the longest function or class."""
    found = [
        (body_lines(node), f"{path.relative_to(package)}: {node.name}")
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    ]
    return max(found)


def house_numbers(checkout: Path) -> dict[str, str]:
    """All numbers of one checkout, by what they count."""
    package = checkout / PACKAGE
    modules = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in package.rglob("*.py")
    }
    folders: dict[Path, int] = {}
    for path in modules:
        folders[path.parent] = folders.get(path.parent, 0) + (path.name != "__init__.py")
    inner = {folder: count for folder, count in folders.items() if folder != package}
    fullest = max(inner, key=inner.__getitem__)
    module = max(modules, key=modules.__getitem__)
    function = longest(package, (ast.FunctionDef, ast.AsyncFunctionDef))
    cls = longest(package, (ast.ClassDef,))
    chain = longest_chain(package)
    return {
        "modules at the root": str(folders[package]),
        "folders": str(len(inner)),
        "modules in the fullest folder": f"{inner[fullest]} ({fullest.relative_to(package)})",
        "longest import chain": f"{len(chain)}",
        "longest module": f"{modules[module]} ({module.relative_to(package)})",
        "longest function": f"{function[0]} ({function[1]})",
        "longest class": f"{cls[0]} ({cls[1]})",
        "lines of package": str(sum(modules.values())),
        "lines of tests": str(lines(checkout / "tests")),
        "lines of benchmarks": str(lines(checkout / "benchmarks")),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path()], metavar="FOLDER")
    columns = [house_numbers(checkout) for checkout in parser.parse_args().checkouts]
    for name in columns[0]:
        print(f"{name:<31}", *(f"{column[name]:<50}" for column in columns))


if __name__ == "__main__":
    main()
