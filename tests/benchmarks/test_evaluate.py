"""What the evaluation of a level-free model says of its molecules."""

from argparse import Namespace

import evaluate
import numpy as np
import pytest
from ase.build import molecule

from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import load_model
from ase_srdft.models.shipped_models import model_path


def row(natoms=6, widths=(0.2, 0.4), error=None):
    return evaluate.Row(natoms=natoms, widths=np.array(widths), guess=9.0, paths="m", error=error)


@pytest.mark.parametrize(
    ("error", "covered"), [(0.1, True), (0.2, True), (0.0, True), (0.3, False), (-0.1, False)]
)
def test_an_error_counts_beside_the_bracket_of_its_own_copy(error, covered):
    assert row(error=error).covered is covered


def test_means_are_by_size_and_the_widest_is_of_all_copies():
    rows = {"CH3OH": row(), "glycine": row(10, (0.5, 0.7)), "caffeine": row(24, (1.0, 1.25))}
    text = evaluate.summary(rows)
    assert text == (
        "mean: kept out (1): 0.300, up to 19 atoms (1): 0.600, 20 atoms and more (1): 1.125; "
        "widest: 1.25"
    )


def test_scf_energies_outside_are_not_counted_as_inside():
    text = evaluate.summary({"CH3OH": row(error=0.1), "CH3CHO": row(error=0.3)})
    assert text.splitlines()[-1] == "SCF energy inside the bracket: 1 of 2"


def test_a_molecule_by_itself():
    options = Namespace(copies=1, temperature=300.0, scf=True)
    model = load_model(model_path("organics")).model
    level = LevelOfTheory(xc="LDA", basis="sto-3g")
    found = evaluate.row(model, molecule("H2O"), level, options)
    assert found.covered
    assert 0.0 < found.error <= found.widths[0] < found.guess
