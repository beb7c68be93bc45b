"""Features from the blocks of matrices: rotation, order of atoms, and that all of it is read."""

import pytest
import torch

from ase_srdft.models.fock.block_layers import FeaturesFromBlocks
from ase_srdft.models.layers.spherical_tensors import component_slice, ncomponents
from tests.tools.molecules import (
    harmonics_rotation,
    orbital_rotation,
    rotation_matrix,
    symmetric,
    system,
)

ELEMENTS = (1, 6, 8)


def reading_of(basis="6-31g", *, diagonal, lmax=2, nmatrices=2, odd_features=None):
    pairs = [(a, b) for a in ELEMENTS for b in ELEMENTS if a == b or not diagonal]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FeaturesFromBlocks(5, lmax, basis, pairs, nmatrices, odd_features).double()


def matrices_of(molecule, seed=0):
    return symmetric(1, 2, molecule.nao, molecule.nao, seed=seed)


@torch.no_grad()
@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize(("basis", "lmax"), [("6-31g", 2), ("def2-svp", 4), ("def2-tzvp", 6)])
def test_features_turn_with_the_orbitals(basis, lmax, diagonal, improper):
    molecule, _ = system("H2CO", basis=basis)
    matrix = rotation_matrix(3, improper)
    orbitals = orbital_rotation(basis, molecule.numbers, matrix)
    reading = reading_of(basis, diagonal=diagonal, lmax=lmax)
    here = matrices_of(molecule)
    there = orbitals @ here @ orbitals.T
    before, after = (reading([molecule], [m], diagonal) for m in (here, there))
    for parity, (first, second) in enumerate(zip(before, after, strict=True)):
        assert first.shape[1:] == (ncomponents(lmax), 5)
        for angular in range(lmax + 1):
            rows = component_slice(angular)
            turn = harmonics_rotation(angular, matrix)
            if parity and improper:
                turn = -turn  # pseudo-tensors
            expected = torch.einsum("st,ntc->nsc", turn, first[:, rows])
            torch.testing.assert_close(second[:, rows], expected, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("diagonal", [False, True])
def test_every_element_of_every_matrix_is_read(diagonal):
    molecule, _ = system("H2CO")
    reading = reading_of(diagonal=diagonal)
    zero = torch.zeros(1, 2, molecule.nao, molecule.nao, dtype=torch.float64)
    atoms = [
        i for i, rows in enumerate(molecule.basis.atom_slices) for _ in range(rows.start, rows.stop)
    ]
    for element in range(2 * molecule.nao**2):
        one = zero.clone()
        one.view(-1)[element] = 1.0
        row, column = divmod(element % molecule.nao**2, molecule.nao)
        total = sum(float(t.abs().sum()) for t in reading([molecule], [one], diagonal))
        assert (total > 1e-3) == ((atoms[row] == atoms[column]) == diagonal)


@torch.no_grad()
def test_a_batch_of_two_molecules_is_each_alone():
    water, _ = system("H2O")
    methane, _ = system("CH4")
    reading = reading_of(diagonal=False)
    given = [matrices_of(water), torch.cat([matrices_of(methane), matrices_of(methane, seed=1)])]
    together = reading([water, methane], given, diagonal=False)
    alone = [reading([water], given[:1], diagonal=False)]
    alone += [reading([methane], [given[1][i : i + 1]], diagonal=False) for i in range(2)]
    for part in range(2):
        joined = torch.cat([tensors[part] for tensors in alone])
        torch.testing.assert_close(together[part], joined, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("diagonal", [False, True])
def test_odd_channels_that_nobody_wants_are_left_out(diagonal):
    molecule, _ = system("H2CO")
    given = [molecule], [matrices_of(molecule)], diagonal
    every, some = (
        reading_of(diagonal=diagonal)(*given),
        reading_of(diagonal=diagonal, odd_features=2)(*given),
    )
    assert some[1].shape[-1] == 2
    torch.testing.assert_close(some[0], every[0], rtol=0, atol=0)
    torch.testing.assert_close(some[1], every[1][..., -2:], rtol=0, atol=1e-14)
