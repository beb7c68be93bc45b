"""Axes: rotations of orbitals against integrals of the turned molecule."""

import pytest
import torch

from ase_srdft.dft.preparation import prepare
from ase_srdft.models.orbital_tokens.rotated_axes import Frame, orbital_rotation, random_rotations
from tests.tools.molecules import orbital_rotation as expected_rotation
from tests.tools.molecules import rotation_matrix, system


def test_random_rotations_are_rotations_and_even():
    rotations = random_rotations(20_000, seed=1)
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, identity, rtol=0, atol=1e-13)
    assert torch.linalg.det(rotations).min() > 0.999
    # of even distribution: <Q> = 0, <Q_ab^2> = 1/3, <trace^2> = 1, to five standard errors
    assert float(rotations.mean(0).abs().max()) < 5 * (3 * 20_000) ** -0.5
    assert float((rotations.square().mean(0) - 1 / 3).abs().max()) < 5 * 0.3 / 20_000**0.5
    trace = rotations.diagonal(dim1=1, dim2=2).sum(-1)
    assert float(trace.square().mean()) == pytest.approx(1.0, abs=5 * 1.42 / 20_000**0.5)
    assert torch.equal(rotations[:5], random_rotations(20_000, seed=1)[:5])
    assert not torch.equal(rotations[:5], random_rotations(5, seed=2))


@pytest.mark.parametrize("basis", ["sto-3g", "def2-svp", "def2-tzvp"])
def test_matrices_of_the_turned_molecule_need_no_new_integrals(basis):
    molecule, positions = system("H2CO", basis=basis, grid_level=0, guess="core")
    rotation = rotation_matrix(2)
    here, there = (prepare(molecule, x).integrals for x in (positions, positions @ rotation.T))
    frame = Frame.of(molecule, rotation[None])
    for name in ("overlap", "core_hamiltonian"):
        own, turned = getattr(here, name), getattr(there, name)
        assert float((own - turned).abs().max()) > 1e-2
        torch.testing.assert_close(frame.there(own), turned, rtol=0, atol=1e-10)
        torch.testing.assert_close(frame.back(turned), own, rtol=0, atol=1e-10)
    expected = expected_rotation(basis, molecule.numbers, rotation)
    torch.testing.assert_close(
        orbital_rotation(molecule, rotation[None])[0], expected, rtol=0, atol=1e-12
    )


def test_vectors_and_columns_turn_and_the_given_axes_do_nothing():
    molecule, _ = system("H2O", basis="sto-3g", guess="core")
    rotations = random_rotations(2, seed=3)
    frame, plain = Frame.of(molecule, rotations), Frame()
    vectors = torch.randn(2, 3, 3, 4, dtype=torch.float64)
    turned = frame.vectors(vectors)
    torch.testing.assert_close(turned[1, 2, :, 3], rotations[1] @ vectors[1, 2, :, 3])
    columns = torch.randn(2, molecule.nao, 5, dtype=torch.float64)
    there = orbital_rotation(molecule, rotations) @ columns
    torch.testing.assert_close(frame.columns_back(there), columns)
    assert plain.vectors(vectors) is vectors
    matrix = columns @ columns.mT
    assert plain.there(matrix) is matrix
    assert plain.back(matrix) is matrix
    assert plain.columns_back(columns) is columns
