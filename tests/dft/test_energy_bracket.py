"""The energy bracket holds the SCF energy, and closes on it."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import reference_scf
from tests.tools.molecules import prepared

CASES = {
    "water PBE": {"name": "H2O", "xc": "PBE", "grid_level": 0},
    "water B3LYP": {"name": "H2O", "xc": "B3LYP", "grid_level": 0},
    "formaldehyde PBE0": {"name": "H2CO", "xc": "PBE0", "basis": "sto-3g", "grid_level": 0},
    "formaldehyde LDA": {"name": "H2CO", "xc": "LDA", "basis": "sto-3g", "grid_level": 0},
    "water PBE exact": {"name": "H2O", "density_fitting": False, "grid_level": 0},
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def converged(request):
    geometry = prepared(**request.param)
    return geometry, reference_scf(geometry.molecule, geometry.positions[0].numpy())


def bracket_of(geometry, density_matrix):
    energies, fock = kohn_sham(geometry, density_matrix)
    return energy_bracket(geometry, energies.total, density_matrix, fock)


def perturbed(geometry, fock, size, seed):
    """Aufbau density of the SCF's Fock matrix with noise of a size (Hartree)."""
    noise = np.random.default_rng(seed).normal(scale=size, size=fock.shape)
    orthogonal = geometry.orthogonal(torch.tensor(fock)[None]) + torch.tensor(noise + noise.T)
    return geometry.density_matrix(occupied_projector(orthogonal, geometry.molecule.nocc)[0])


@pytest.mark.parametrize("size", [1e-3, 1e-2, 0.05])
def test_the_bracket_holds_the_scf_energy(converged, size):
    geometry, reference = converged
    for seed in range(6):
        bracket = bracket_of(geometry, perturbed(geometry, reference.fock, size, seed))
        error = float(bracket.upper) - reference.energy
        assert error > 1e-2 * size**2  # variational
        assert float(bracket.lower) < reference.energy
        assert float(bracket.width) < 4.0 * error  # nor looser than it need be
        assert float(bracket.aufbau_gap) > 0.05


def test_the_bracket_closes_at_the_scf(converged):
    geometry, reference = converged
    density_matrix = torch.tensor(reference.density_matrix)[None]
    bracket = bracket_of(geometry, density_matrix)
    assert float(bracket.upper) == pytest.approx(reference.energy, abs=1e-9)
    assert 0.0 <= float(bracket.width) < 1e-8
    nocc = geometry.molecule.nocc
    gap = reference.mo_energy[nocc] - reference.mo_energy[nocc - 1]
    assert float(bracket.aufbau_gap) == pytest.approx(gap, abs=1e-4)


def test_the_width_shrinks_as_the_square_of_the_error(converged):
    geometry, reference = converged
    widths = [
        float(bracket_of(geometry, perturbed(geometry, reference.fock, size, 0)).width)
        for size in (2e-3, 1e-3)
    ]
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.1)


def test_lower_is_the_linearised_energy_of_the_aufbau_state(converged):
    geometry, reference = converged
    density_matrix = perturbed(geometry, reference.fock, 0.02, 1)
    energies, fock = kohn_sham(geometry, density_matrix)
    aufbau, _, _ = occupied_projector(geometry.orthogonal(fock), geometry.molecule.nocc)
    change = geometry.density_matrix(aufbau) - density_matrix
    factor = 1.0 + geometry.molecule.level.functional.exact_exchange
    expected = float(energies.total) + factor * float((fock * change).sum())
    bracket = energy_bracket(geometry, energies.total, density_matrix, fock)
    assert float(bracket.width) > 1e-5
    assert float(bracket.lower) == pytest.approx(expected, abs=1e-10)


#: Whose errors exceed a width that is not widened: name, distance (Bohr), functional, size, seed.
SMALL_GAPS = {
    "LiH": ((3, 1), 5.29, "PBE", 1e-2, 0),
    "N2": ((7, 7), 3.78, "B3LYP", 1e-2, 5),
    "F2": ((9, 9), 3.78, "B3LYP", 1e-3, 4),
}


@pytest.mark.parametrize("case", SMALL_GAPS.values(), ids=SMALL_GAPS)
def test_where_the_gap_is_small_the_bracket_is_wider_and_holds(case):
    numbers, distance, xc, size, seed = case
    molecule = Molecule(numbers=numbers, level=LevelOfTheory(xc=xc, basis="6-31g", grid_level=0))
    positions = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, distance]]], dtype=torch.float64)
    geometry = prepare(molecule, positions)
    reference = reference_scf(molecule, positions[0].numpy())
    density_matrix = perturbed(geometry, reference.fock, size, seed)
    energies, fock = kohn_sham(geometry, density_matrix)
    bracket = energy_bracket(geometry, energies.total, density_matrix, fock)
    exchange = molecule.level.functional.exact_exchange
    assert float(bracket.aufbau_gap) < 0.06 + 0.4 * exchange
    change = (
        geometry.density_matrix(occupied_projector(geometry.orthogonal(fock), molecule.nocc)[0])
        - density_matrix
    )
    not_widened = -(1.0 + exchange) * float((fock * change).sum())
    error = float(bracket.upper) - reference.energy
    assert not_widened < error < 0.9 * float(bracket.width)
    assert float(bracket.width) == pytest.approx(1.5 * not_widened)


def test_a_filled_basis_has_an_infinite_gap_and_no_width():
    geometry = prepared("H2", basis="sto-3g", charge=-2, grid_level=0)
    identity = torch.eye(2, dtype=torch.float64)[None]
    bracket = bracket_of(geometry, geometry.density_matrix(identity))
    assert torch.isinf(bracket.aufbau_gap).all()
    assert float(bracket.width) == pytest.approx(0.0, abs=1e-10)


def test_rounding_does_not_turn_the_bracket_over():
    geometry = prepared("H2O", grid_level=0)
    fock = geometry.guess_fock
    projector, _, _ = occupied_projector(geometry.orthogonal(fock), geometry.molecule.nocc)
    energy = torch.tensor([-76.0], dtype=torch.float64)
    for scale in (0.0, 1e-16, 1e-14):
        noisy = fock + scale * torch.randn_like(fock)
        bracket = energy_bracket(geometry, energy, geometry.density_matrix(projector), noisy)
        assert 0.0 <= float(bracket.width) < 1e-9
