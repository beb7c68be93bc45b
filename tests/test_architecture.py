"""The rules of the house that no compiler keeps: layers, borders, sizes, words, a quiet import.

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

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "ase_srdft"

# Which files may import what; a folder ends in a slash.
BORDERS = {
    "pyscf": (
        "dft/basis.py",
        "dft/dipole.py",
        "dft/grid_template.py",
        "dft/guess_data.py",
        "dft/libcint.py",
        "dft/reference.py",
        "dft/basis/",
        "dft/dipole_moment.py",
        "dft/grid/atomic_grid.py",
        "dft/integrals/libcint.py",
        "dft/reference_scf.py",
    ),
    "ase": (
        "elements.py",
        "units.py",
        "charges.py",
        "reading/",
        "structures.py",
        "calculator.py",
        "calculator_engine.py",
        "calculator_input.py",
        "calculator_outputs.py",
        "dynamics.py",
        "evaluation.py",
        "common/",
        "calculator/",
        "dynamics/",
        "reference/",
        "runs/",
        "sampling/",
        "training/",
        "cli/",
    ),
}
MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 500

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(package: Path) -> Iterator[tuple[str, ast.Module]]:
    """Each module's path relative to the package, and its syntax tree."""
    for path in sorted(package.rglob("*.py")):
        yield path.relative_to(package).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported_packages(tree: ast.Module) -> set[str]:
    """The top-level names that a module imports anywhere in it."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.append(node.module)
    return {name.partition(".")[0] for name in names}


def border_crossings(package: Path) -> list[str]:
    """Modules that import what BORDERS keeps from them."""
    return [
        f"{path} imports {name}"
        for path, tree in modules(package)
        for name, allowed in BORDERS.items()
        if name in imported_packages(tree) and not path.startswith(allowed)
    ]


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


def is_accessor_or_overload(node: ast.AST) -> bool:
    """Whether a function is a property's setter or deleter, or one of a set of overloads."""
    decorators = {ast.unparse(d).rpartition(".")[2] for d in getattr(node, "decorator_list", [])}
    return not decorators.isdisjoint({"setter", "deleter", "overload"})


def undocumented(scope: ast.Module | ast.ClassDef, prefix: str) -> list[str]:
    """Public functions, classes and methods in a scope that have no docstring."""
    missing = []
    for node in scope.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        name = f"{prefix}{node.name}"
        if not ast.get_docstring(node) and not is_accessor_or_overload(node):
            missing.append(name)
        if isinstance(node, ast.ClassDef):
            missing += undocumented(node, f"{name}.")
    return missing


def undocumented_names(package: Path) -> list[str]:
    """Public names of a package that have no docstring."""
    return [name for path, tree in modules(package) for name in undocumented(tree, f"{path}: ")]


RULES = [border_crossings, long_functions, long_modules, undocumented_names]
LONG_BODY = "    x = 1\n" * (MAX_FUNCTION_LINES + 1)
OFFENDERS = [
    (border_crossings, "dft/energy.py", "import pyscf\n"),
    (border_crossings, "dft/energy.py", "def f():\n    from pyscf.dft import libxc\n"),
    (border_crossings, "models/fock.py", "import numpy, ase.units as u\n"),
    (border_crossings, "cli.py", "from ase import Atoms\n"),
    (long_functions, "long.py", f'def f():\n    """One."""\n{LONG_BODY}'),
    (long_functions, "long.py", f"class A:\n  async def f():\n{LONG_BODY}"),
    (long_modules, "long.py", "x = 1\n" * (MAX_MODULE_LINES + 1)),
    (undocumented_names, "words.py", "def f():\n    return 1\n"),
    (undocumented_names, "words.py", "class A:\n    x = 1\n"),
    (undocumented_names, "words.py", 'class A:\n    """A."""\n    def f(self):\n        pass\n'),
]
LAW_ABIDING = {
    "dft/basis.py": "import pyscf.gto\n",
    "training/learner.py": "from ase.io import Trajectory\nfrom .ase import x\n",
    "units.py": "import ase.units\n",
    "errors.py": "import asevedo\nimport_pyscf = 'import pyscf'\n",
    "long.py": 'def f():\n    """One.\n\n    Two.\n    """\n' + "    x = 1\n" * MAX_FUNCTION_LINES,
    "words.py": "def _f():\n    pass\nclass _A:\n    def f(self):\n        pass\n",
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
    assert len(list(modules(PACKAGE))) > 1
    assert rule(PACKAGE) == []


# Layers


def broken_layers(root: Path) -> str:
    """What import-linter has against the ase_srdft package in a folder; empty if nothing."""
    lint = "import sys; from importlinter.cli import lint_imports; "
    lint += "sys.exit(lint_imports(config_filename=sys.argv[1], no_cache=True))"
    command = [sys.executable, "-c", lint, str(REPOSITORY / "setup.cfg")]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    return "" if run.returncode == 0 else run.stdout + run.stderr


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("units", "dft"),
        ("parallel", "dft"),
        ("common", "dft"),
        ("dft", "models"),
        ("models", "calculator"),
        ("training", "dynamics"),
        ("training", "cli"),
    ],
)
def test_layers_catch_an_upward_import(importer, imported, tmp_path):
    pytest.importorskip("importlinter")
    line = f"def f():\n    import ase_srdft.{imported}\n"
    plant(
        tmp_path / "ase_srdft",
        {"__init__.py": "", f"{importer}.py": line, f"{imported}.py": ""},
    )
    assert f"ase_srdft.{importer} is not allowed to import" in broken_layers(tmp_path)


def test_layers_hold():
    pytest.importorskip("importlinter")
    assert broken_layers(REPOSITORY) == ""


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
    if not module.name.endswith("__main__"):
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
