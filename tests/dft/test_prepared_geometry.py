"""Prepared geometries: what they hold, how batches join and part, what is refused."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate, from_tensors, select, to_tensors
from tests.tools.molecules import prepared, random_state, system

LEVELS = {
    "minao, fitted": {"guess": "minao"},
    "sap, exact": {"guess": "sap", "density_fitting": False},
}


def tensors(geometry):
    named = {f"integrals.{name}": value for name, value in vars(geometry.integrals).items()}
    named["grid.weights"] = geometry.grid.weights
    for name in ("positions", "orthogonaliser", "guess_fock"):
        named[name] = getattr(geometry, name)
    return {name: value for name, value in named.items() if value is not None}


def assert_same(first, second):
    first, second = tensors(first), tensors(second)
    assert set(first) == set(second)
    assert len(first) >= 7
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=1e-11, msg=name)


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_a_batch_is_joined_and_parted(level):
    molecule, positions = system("H2O", grid_level=0, **level)
    stretched = [positions, 1.1 * positions, 1.2 * positions]
    apart = [prepare(molecule, x) for x in stretched]
    together = prepare(molecule, torch.cat(stretched))
    assert float((together.guess_fock[0] - together.guess_fock[2]).abs().max()) > 1e-2
    joined = concatenate(apart)
    assert len(joined) == len(together) == 3
    assert_same(joined, together)
    for i, alone in enumerate(apart):
        assert_same(select(together, slice(i, i + 1)), alone)
    assert_same(select(together, slice(1, 3)), concatenate(apart[1:]))


def test_a_selection_is_a_view():
    geometry = prepared("H2O", grid_level=0)
    part = select(geometry, slice(0, 1))
    assert part.grid.weights.data_ptr() == geometry.grid.weights.data_ptr()
    assert part.grid.template is geometry.grid.template
    assert part.molecule is geometry.molecule


def test_its_memory_is_counted():
    molecule, positions = system("H2O", grid_level=0)
    once, twice = prepare(molecule, positions), prepare(molecule, torch.cat([positions] * 2))
    npoints = once.grid.weights.shape[1]
    assert twice.nbytes == 2 * once.nbytes
    assert once.nbytes > 8 * npoints


def test_the_orthogonal_basis():
    geometry = prepared("H2CO", basis="def2-svp", grid_level=0)
    identity = torch.eye(geometry.molecule.nao, dtype=torch.float64)[None]
    overlap = geometry.orthogonal(geometry.integrals.overlap)
    torch.testing.assert_close(overlap, identity, rtol=0, atol=1e-10)
    density_matrix = geometry.density_matrix(identity)
    back = density_matrix @ geometry.integrals.overlap
    torch.testing.assert_close(back, 2.0 * identity, rtol=0, atol=1e-9)


def test_another_grid_leaves_the_level_of_theory_alone():
    molecule, positions = system("H2O", grid_level=2)
    fine, coarse = prepare(molecule, positions), prepare(molecule, positions, COARSE_GRID)
    assert coarse.grid.weights.shape[1] < fine.grid.weights.shape[1]
    density_matrix = random_state(fine)
    energies = [kohn_sham(g, density_matrix)[0].total for g in (fine, coarse)]
    assert 1e-7 < float((energies[0] - energies[1]).abs()) < 1e-2


def test_gradients_are_asked_for_by_the_positions():
    molecule, positions = system("H2O", guess="minao", grid_level=0)
    geometry = prepare(molecule, positions)
    assert not any(t.requires_grad for t in tensors(geometry).values())
    geometry = prepare(molecule, positions.requires_grad_())
    followers = {n: t for n, t in tensors(geometry).items() if n != "integrals.metric_factor"}
    assert all(t.requires_grad for t in followers.values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_positions_that_are_not_finite_are_refused(value):
    molecule, positions = system("H2O")
    positions[0, 1, 2] = value
    with pytest.raises(BadInput, match="not finite"):
        prepare(molecule, positions)


@pytest.mark.parametrize("natoms", [2, 4])
def test_positions_of_another_molecule_are_refused(natoms):
    molecule, _ = system("H2O")
    with pytest.raises(BadInput, match=rf"shape \(1, {natoms}, 3\) .* 3 atoms of H2O"):
        prepare(molecule, torch.zeros(1, natoms, 3, dtype=torch.float64))


def test_single_precision_is_refused():
    molecule, positions = system("H2O")
    with pytest.raises(BadInput, match=r"torch.float32 .* give float64"):
        prepare(molecule, positions.float())


@pytest.mark.parametrize("distance", [0.0, 1e-7, 1e-4])
def test_overlapping_atoms_are_refused(distance):
    molecule, positions = system("H2")
    positions[0, 1] = positions[0, 0] + torch.tensor([0.0, 0.0, distance])
    with pytest.raises(BadInput, match="atoms too close together"):
        prepare(molecule, positions)


def test_one_overlapping_member_spoils_the_batch():
    molecule, positions = system("H2O")
    second = positions.clone()
    second[0, 1] = second[0, 2]
    with pytest.raises(BadInput, match="atoms too close together"):
        prepare(molecule, torch.cat([positions, second]))


def test_close_atoms_are_not_refused():
    molecule, positions = system("H2")
    positions[0, 1] = positions[0, 0] + torch.tensor([0.0, 0.0, 0.3])
    geometry = prepare(molecule, positions)
    assert np.isfinite(geometry.guess_fock.numpy()).all()


@pytest.mark.parametrize("guess", ["minao", "sap"])
def test_no_digit_depends_on_the_batch(guess):
    molecule, positions = system("CH3CH2OH", guess=guess)
    batch = torch.cat([positions, 1.01 * positions, 1.02 * positions])
    together = tensors(prepare(molecule, batch, COARSE_GRID))
    alone = tensors(prepare(molecule, batch[1:2], COARSE_GRID))
    assert set(together) == set(alone)
    for name, tensor in together.items():
        assert torch.equal(tensor[1:2], alone[name]), name
        assert not torch.equal(tensor[:1], alone[name]), name


@pytest.mark.parametrize("level", LEVELS.values(), ids=LEVELS)
def test_tensors_by_name_and_back(level):
    geometry = prepared("H2O", grid_level=0, **level)
    again = from_tensors(geometry.molecule, to_tensors(geometry), geometry.grid.template.level)
    assert_same(again, geometry)
    assert again.nbytes == geometry.nbytes > 0


def test_it_can_be_copied_and_sent_after_it_was_used():
    geometry = prepared("H2O", grid_level=0)
    density_matrix = random_state(geometry)
    expected, _ = kohn_sham(geometry, density_matrix)
    for again in (copy.deepcopy(geometry), pickle.loads(pickle.dumps(geometry))):
        energies, _ = kohn_sham(again, density_matrix)
        torch.testing.assert_close(energies.total, expected.total, rtol=0, atol=1e-12)


def test_the_layout_of_the_positions_does_not_matter():
    molecule, positions = system("H2O", grid_level=0)
    turned = positions.mT.contiguous().mT
    assert not turned.is_contiguous()
    assert_same(prepare(molecule, turned), prepare(molecule, positions))
