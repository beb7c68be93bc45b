"""Every program in ``benchmarks/`` says how it is called, and finds what it imports as a script."""

import ast
import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FILES = sorted(BENCHMARKS.rglob("*.py"))
PROGRAMS = [path.stem for path in FILES if "__main__" in path.read_text(encoding="utf-8")]


def test_there_are_programs():
    assert len(PROGRAMS) > 14
    assert len({path.stem for path in FILES}) == len(FILES)


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name, capsys):
    if name == "make_molecules":
        pytest.importorskip("rdkit")
    module = importlib.import_module(name)
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert end.value.code == 0
    assert module.__doc__.splitlines()[0] in capsys.readouterr().out


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_script_imports_from_its_own_folder_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    elsewhere = {other.stem for other in FILES if other.parent != path.parent}
    assert imported & elsewhere == set()
