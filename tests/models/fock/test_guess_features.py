"""What the guess knows of the electrons: shapes, meaning, one scale."""

import pytest
import torch

from ase_srdft.dft.guess_fock import minimal_density_matrix
from ase_srdft.dft.molecule import GUESSES
from ase_srdft.models.fock.guess_features import guess_matrices, nguess_matrices
from tests.tools.molecules import prepared


@pytest.mark.parametrize("guess", GUESSES)
def test_as_many_as_are_announced_each_of_order_one(guess):
    geometry = prepared("H2CO", guess=guess, grid_level=0)
    matrices = guess_matrices(geometry)
    nao = geometry.molecule.nao
    assert matrices.shape == (1, nguess_matrices(guess), nao, nao)
    torch.testing.assert_close(matrices, matrices.transpose(-1, -2), rtol=0, atol=1e-10)
    scales = matrices.abs().amax((0, 2, 3))
    assert float(scales.min()) > 0.1
    assert float(scales.max()) < 20.0  # the core electrons of ``core`` feel the bare nuclei


def test_the_change_of_density_moves_electrons_and_makes_none():
    geometry = prepared("H2CO", guess="roothaan", grid_level=0)
    _, projector, change, _ = guess_matrices(geometry)[0]
    assert float(projector.trace()) == pytest.approx(geometry.molecule.nocc, abs=1e-10)
    atoms = minimal_density_matrix(geometry.molecule, geometry.integrals)[0]
    missing = geometry.molecule.nelectron - float((atoms * geometry.integrals.overlap[0]).sum())
    assert float(change.abs().max()) > 0.1
    assert float(change.trace()) == pytest.approx(3.0 * missing, abs=1e-9)
