"""Every program in ``benchmarks/`` says how it is called, and finds what it imports as a script."""

import ast
import importlib
from pathlib import Path

import _common
import numpy as np
import pytest

from ase_srdft.common.errors import BadGeometry

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


def test_nuclei_come_through_the_door_that_checks_them():
    atoms = _common.rattled("H2O", seed=1)
    positions = _common.bohr(atoms)
    assert positions.shape == (1, 3, 3)
    np.testing.assert_allclose(positions[0], atoms.positions / 0.529177210903, rtol=1e-9)
    atoms.positions[1] = atoms.positions[0]
    with pytest.raises(BadGeometry):
        _common.bohr(atoms)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_script_has_a_door_of_its_own(path):
    divided = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and ast.unparse(node.right) in ("ANGSTROM_PER_BOHR", "Bohr", "units.Bohr")
        and "positions" in ast.unparse(node.left)
    ]
    assert divided == []


def test_devices_are_timed_at_all_pieces_of_work(capsys):
    words = ["--devices", "cpu", "--molecules", "water", "--levels", "PBE/sto-3g"]
    assert importlib.import_module("devices").main([*words, "--batch", "2", "--repeats", "1"]) == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[2] for row in rows] == [
        "energy + forces, one geometry",
        "energy + forces, batch of 2",
        "corrected to 1 meV, with forces",
        "training step, 2 new",
        "training step, 2 known",
    ]
    assert all(float(row[3]) > 0 for row in rows)
