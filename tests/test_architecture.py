"""The rules of the house that no compiler keeps: layers, borders, sizes, a quiet import.

Each rule is a function from a package's folder to a list of offences; each is first shown
to catch a planted offender, then asked about the package itself.
"""

import ast
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import beartype
import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation, BeartypeCallHintReturnViolation
from jaxtyping import Float
from torch import Tensor

from ase_srdft.dft.energy import nuclear_repulsion

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "ase_srdft"

MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 500

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(package: Path) -> Iterator[tuple[str, ast.Module]]:
    """Each module's path relative to the package, and its syntax tree."""
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def body_lines(function: Function) -> int:
    """The lines of a function's body, its docstring not counted."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def long_functions(package: Path) -> list[str]:
    """Functions whose body is past MAX_FUNCTION_LINES."""
    return [
        f"{path}: {node.name} has {body_lines(node)} lines"
        for path, tree in modules(package)
        for node in ast.walk(tree)
        if isinstance(node, Function) and body_lines(node) > MAX_FUNCTION_LINES
    ]


def long_modules(package: Path) -> list[str]:
    """Modules past MAX_MODULE_LINES."""
    lengths = {
        path.relative_to(package).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(package.rglob("*.py"))
    }
    return [f"{path} has {n} lines" for path, n in lengths.items() if n > MAX_MODULE_LINES]


RULES = [long_functions, long_modules]
LONG_BODY = "    x = 1\n" * (MAX_FUNCTION_LINES + 1)
OFFENDERS = [
    (long_functions, "long.py", f'def f():\n    """One."""\n{LONG_BODY}'),
    (long_functions, "long.py", f"class A:\n  async def f():\n{LONG_BODY}"),
    (long_modules, "long.py", "x = 1\n" * (MAX_MODULE_LINES + 1)),
]
LAW_ABIDING = {
    "long.py": 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * MAX_FUNCTION_LINES,
}


def plant(package: Path, files: dict[str, str]) -> None:
    """Write a package of the given files."""
    for path, text in files.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("rule", "path", "text"), OFFENDERS)
def test_rule_catches_a_planted_offender(rule, path, text, tmp_path):
    plant(tmp_path, {path: text})
    assert [offence.startswith(path) for offence in rule(tmp_path)] == [True]


@pytest.mark.parametrize("rule", RULES)
def test_rule_lets_the_law_abiding_pass(rule, tmp_path):
    plant(tmp_path, LAW_ABIDING)
    assert rule(tmp_path) == []


@pytest.mark.parametrize("rule", RULES)
def test_package_keeps_the_rule(rule):
    assert len(list(modules(PACKAGE))) > 100
    assert rule(PACKAGE) == []


# Layers and borders


def broken_contracts(root: Path, contract: str) -> str:
    """What import-linter has against the ase_srdft package in a folder; empty if nothing."""
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports("
    lint += "config_filename=sys.argv[1], limit_to_contracts=(sys.argv[2],), no_cache=True))"
    command = [sys.executable, "-c", lint, str(REPOSITORY / "setup.cfg"), contract]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("common", "dft"),
        ("parallel", "dft"),
        ("dft", "models"),
        ("models", "calculator"),
        ("sampling", "training"),
        ("training", "runs"),
        ("runs", "dynamics"),
        ("dynamics", "cli"),
    ],
)
def test_layers_catch_an_upward_import(importer, imported, tmp_path):
    pytest.importorskip("importlinter")
    line = f"def f():\n    import ase_srdft.{imported}\n"
    plant(
        tmp_path / "ase_srdft",
        {"__init__.py": "", f"{importer}.py": line, f"{imported}.py": ""},
    )
    found = broken_contracts(tmp_path, "layers")
    assert f"ase_srdft.{importer} is not allowed to import" in found


def test_a_room_without_a_layer_is_noticed(tmp_path):
    pytest.importorskip("importlinter")
    plant(tmp_path / "ase_srdft", {"__init__.py": "", "attic.py": "", "dft.py": ""})
    assert "attic" in broken_contracts(tmp_path, "layers")


@pytest.mark.parametrize("contract", ["layers", "pyscf", "ase"])
def test_contracts_hold(contract):
    pytest.importorskip("importlinter")
    assert broken_contracts(REPOSITORY, contract) == ""


# What an import does

LIGHT_PROBE = """
import importlib, json, os, sys
environment = dict(os.environ)
importlib.import_module(sys.argv[1])
changes = sorted({"torch", "pyscf", "schnetpack"} & set(sys.modules))
if environment != dict(os.environ):
    changes.append("os.environ")
json.dump(changes, open(sys.argv[2], "w"))
"""
STATE_PROBE = """
import importlib, json, pkgutil, sys
import torch
def state():
    return [str(torch.get_default_dtype()), torch.get_num_threads(), torch.initial_seed()]
before = state()
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.rpartition(".")[2].startswith("_"):  # scripts, and compiled libraries
        importlib.import_module(module.name)
changes = [new for old, new in zip(before, state()) if old != new]
json.dump(changes, open(sys.argv[2], "w"))
"""


def run_probe(probe: str, package: str, root: Path, report: Path) -> tuple[str, list]:
    """Run a probe of a package in a process of its own: what it printed, and what it found."""
    run = subprocess.run(
        [sys.executable, "-c", probe, package, str(report)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr, json.loads(report.read_text())


@pytest.mark.parametrize(
    ("line", "printed", "changes"),
    [
        ("print('welcome')", "welcome\n", []),
        ("import sys; sys.stderr.write('beware')", "beware", []),
        ("import pyscf", "", ["pyscf"]),
        ("import os; os.environ['OMP_NUM_THREADS'] = '3'", "", ["os.environ"]),
    ],
)
def test_probe_catches_a_noisy_or_heavy_import(line, printed, changes, tmp_path):
    plant(tmp_path, {"planted.py": line, "pyscf.py": ""})
    assert run_probe(LIGHT_PROBE, "planted", tmp_path, tmp_path / "r") == (printed, changes)


def test_import_is_quiet_and_light(tmp_path):
    assert run_probe(LIGHT_PROBE, "ase_srdft", REPOSITORY, tmp_path / "r") == ("", [])


def test_probe_catches_a_module_that_sets_global_state(tmp_path):
    line = "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(7)\n"
    plant(tmp_path / "planted", {"__init__.py": "", "sub/__init__.py": "", "sub/deep.py": line})
    _, changes = run_probe(STATE_PROBE, "planted", tmp_path, tmp_path / "r")
    assert changes == ["torch.float64", 7]


def test_no_module_sets_global_state(tmp_path):
    _, changes = run_probe(STATE_PROBE, "ase_srdft", REPOSITORY, tmp_path / "r")
    assert changes == []


def test_shapes_are_checked_in_this_run():
    loader = importlib.import_module("ase_srdft.common.errors").__spec__.loader
    assert type(loader).__module__.startswith("jaxtyping")
    three, four = torch.ones(3, dtype=torch.float64), torch.ones(1, 4, 3, dtype=torch.float64)
    for wrong in ((three, four), (four, four), (three, [1.0])):
        with pytest.raises(BeartypeCallHintParamViolation):
            nuclear_repulsion(*wrong)


@jaxtyping.jaxtyped(typechecker=beartype.beartype)
def cut(tensor: Float[Tensor, " n"], by: int, depth: int = 0) -> Float[Tensor, " n"]:
    return cut(tensor[1:], by, depth - 1) if depth else tensor[by:]


@jaxtyping.jaxtyped(typechecker=beartype.beartype)
def plain(number: int) -> str:
    return number  # no name


def test_shape_checks_tell_one_call_from_another_and_hold_the_result():
    assert [len(cut(torch.ones(n), 0)) for n in (2, 3)] == [2, 3]
    for by, depth in ((1, 0), (0, 1)):  # the inner call of the second is right, the outer is not
        with pytest.raises(BeartypeCallHintReturnViolation):
            cut(torch.ones(3), by, depth)
    with pytest.raises(BeartypeCallHintParamViolation):
        plain("1")
    with pytest.raises(BeartypeCallHintReturnViolation):
        plain(1)
