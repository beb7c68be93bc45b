"""Descents: where they end, against PySCF, and that it is always downhill."""

import numpy as np
import pytest
import torch

from ase_srdft.dft import descent
from ase_srdft.dft.descent import descend, minimum
from ase_srdft.dft.energy_surface import EnergySurface
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.reference_scf import reference_scf
from tests.tools.molecules import prepared

#: Of oxygen and hydrogens (Bohr): its lowest closed shell without exact exchange has an occupied
#: orbital above an empty one.
STRETCHED_WATER = ((0, 0, 0.1), (0, 4.2, -0.9), (0, -1.45, -0.9))


def surface_of(positions, numbers, **level):
    molecule = Molecule(numbers=numbers, level=LevelOfTheory(grid_level=0, **level))
    return EnergySurface(prepare(molecule, torch.tensor([positions], dtype=torch.float64)))


def lowest_orbitals(surface, fock):
    return torch.linalg.eigh(surface.geometry.orthogonal(fock)[0])[1]


@pytest.mark.parametrize("level", [{"xc": "PBE"}, {"xc": "B3LYP", "basis": "sto-3g"}])
def test_it_ends_at_the_scfs_energy(level):
    geometry = prepared("H2O", grid_level=0, **level)
    surface = EnergySurface(geometry)
    start = surface.at(lowest_orbitals(surface, geometry.integrals.core_hamiltonian))
    found = descend(surface, start, 1e-6)
    reference = reference_scf(geometry.molecule, geometry.positions[0].numpy())
    assert start.energy - found.energy > 0.1
    assert found.residual < 1e-6
    assert found.energy == pytest.approx(reference.energy, abs=1e-8)


def test_no_step_leads_up(monkeypatch):
    surface = surface_of(STRETCHED_WATER, (8, 1, 1), xc="LDA", basis="sto-3g")
    energies, along = [], descent._along

    def noted(*arguments):
        found, share = along(*arguments)
        energies.append(found.energy)
        return found, share

    monkeypatch.setattr(descent, "_along", noted)
    core = surface.geometry.integrals.core_hamiltonian
    descend(surface, surface.at(lowest_orbitals(surface, core)), 1e-5)
    assert len(energies) > 5
    assert max(np.diff(energies)) < 1e-10
    assert energies[0] - energies[-1] > 0.1


def test_an_occupied_orbital_may_lie_above_an_empty_one():
    surface = surface_of(STRETCHED_WATER, (8, 1, 1), xc="LDA", basis="sto-3g")
    guess = surface.geometry.guess_fock
    found = minimum(surface, surface.at(lowest_orbitals(surface, guess)), 1e-5, stable_gap=0.02)
    assert found.converged
    assert found.place.gap < -0.01
    assert found.curvature > 0
    # what `reference_scf` comes to
    assert found.place.energy == pytest.approx(-74.497382, abs=2e-6)


def test_it_goes_on_from_a_saddle_point():
    surface = surface_of(((0, 0, 0), (0, 0, 5.31)), (16, 8), xc="LDA", basis="sto-3g")
    guess = surface.geometry.guess_fock
    stuck = descend(surface, surface.at(lowest_orbitals(surface, guess)), 1e-5)
    found = minimum(surface, stuck, 1e-5, stable_gap=0.15)
    assert stuck.residual < 1e-5
    assert found.converged
    assert found.place.energy < stuck.energy - 0.05


def test_what_leads_to_a_known_minimum_ends_there():
    geometry = prepared("H2CO", grid_level=0, xc="LDA", basis="sto-3g")
    surface = EnergySurface(geometry)
    first = minimum(
        surface, surface.at(lowest_orbitals(surface, geometry.guess_fock)), 1e-5, stable_gap=0.02
    )
    core = surface.at(lowest_orbitals(surface, geometry.integrals.core_hamiltonian))
    before = surface.nbuilds
    assert minimum(surface, core, 1e-5, 0.02, known=[first]) is first
    with_known, before = surface.nbuilds - before, surface.nbuilds
    alone = minimum(surface, core, 1e-5, 0.02)
    assert alone is not first
    assert alone.place.energy == pytest.approx(first.place.energy, abs=1e-8)
    assert with_known < surface.nbuilds - before


def test_what_does_not_arrive_is_not_converged(monkeypatch):
    monkeypatch.setattr(descent, "_MOST_STEPS", 2)
    geometry = prepared("H2O", grid_level=0, xc="LDA", basis="sto-3g")
    surface = EnergySurface(geometry)
    start = surface.at(lowest_orbitals(surface, geometry.guess_fock))
    found = minimum(surface, start, 1e-9, stable_gap=0.02)
    assert not found.converged
    assert found.place.energy < start.energy
