"""Whoever asks for what cannot be sees one error, ASE's, and no other one behind it."""

import traceback

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, InputError, SCFError

from ase_srdft import LevelOfTheory, SRDFTCalculator
from ase_srdft.common.errors import BadInput, ReferenceNotConverged
from ase_srdft.common.nuclei import nuclei_of
from ase_srdft.models.model_file import build_model


def shown(error):
    """How many errors Python shows of one."""
    text = "".join(traceback.format_exception(error))
    return (
        1 + text.count("direct cause of the following") + text.count("another exception occurred")
    )


def energy(atoms, **parameters):
    parameters = {"model": "untrained", "xc": "LDA", "basis": "sto-3g"} | parameters
    atoms.calc = SRDFTCalculator(**parameters)
    return atoms.get_potential_energy()


def test_errors_behind_an_error_are_counted():
    with pytest.raises(ValueError, match="two") as caught:
        raise ValueError("two") from KeyError("one")
    assert shown(caught.value) == 2


@pytest.mark.parametrize(
    "parameters",
    [
        {"xc": "nothing"},
        {"basis": "nothing"},
        {"density_fitting": "nothing"},
        {"model": "nothing"},
        {"device": "nothing"},
        {"grid_level": 99},
        {"charge": 1},
        {"threads": 0},
    ],
    ids=str,
)
def test_a_parameter_that_cannot_be(parameters):
    with pytest.raises(InputError) as caught:
        energy(molecule("H2"), **parameters)
    assert shown(caught.value) == 1


@pytest.mark.parametrize(
    ("atoms", "kind"),
    [
        (Atoms(), InputError),
        (Atoms("Xe"), InputError),
        (molecule("O2"), InputError),
        (Atoms("H2", np.zeros((2, 3))), CalculationFailed),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), CalculationFailed),
    ],
    ids=["none", "Xe", "O2", "on top", "nan"],
)
def test_atoms_that_cannot_be_asked_about(atoms, kind):
    with pytest.raises(kind) as caught:
        energy(atoms)
    assert shown(caught.value) == 1


def test_one_image_of_several():
    calculator = SRDFTCalculator("untrained", xc="LDA", basis="sto-3g")
    with pytest.raises(InputError, match="image 1") as caught:
        calculator.evaluate_batch([molecule("H2"), molecule("O2")])
    assert shown(caught.value) == 1


def test_files_and_points(tmp_path):
    atoms = molecule("H2")
    energy(atoms)
    for ask in (
        lambda: atoms.calc.write_cube(tmp_path / "no" / "x.cube", "homo"),
        lambda: atoms.calc.get_density("points"),
        lambda: atoms.calc.set(xc="nothing"),
    ):
        with pytest.raises(InputError) as caught:
            ask()
        assert shown(caught.value) == 1


@pytest.mark.parametrize(
    ("failure", "kind"), [(ReferenceNotConverged, SCFError), (BadInput, CalculationFailed)]
)
def test_an_evaluation_that_fails(failure, kind, monkeypatch):
    def fail(*_, **__):
        raise failure("no answer")

    for name in ("certified_single_point", "open_certified_single_point"):
        monkeypatch.setattr(f"ase_srdft.calculator.model_runner.{name}", fail)
    with pytest.raises(kind, match="no answer") as caught:
        energy(molecule("H2"))
    assert shown(caught.value) == 1


def test_our_own_errors_say_it_once_too():
    level = LevelOfTheory()
    for ask in (
        lambda: nuclei_of(molecule("O2")),
        lambda: build_model("fock", level, (1,), {"x": 1}),
    ):
        with pytest.raises(BadInput) as caught:
            ask()
        assert shown(caught.value) == 1
