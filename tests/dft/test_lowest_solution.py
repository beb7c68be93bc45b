"""Minima from several starts: the lowest is found, from wherever one begins."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.energy_surface import EnergySurface
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.lowest_solution import minima
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import reference_scf
from tests.tools.molecules import prepared

#: Positions (Bohr) of stretched molecules, level, and the lowest energy (Hartree): that of
#: `reference_scf`, which of N2 ends 7e-5 higher, in a valley that falls off by 1e-4 per radian.
STRETCHED = {
    "water": (
        (8, 1, 1),
        ((0, 0, 0.1), (0, 4.2, -0.9), (0, -1.45, -0.9)),
        {"xc": "LDA", "basis": "sto-3g"},
        -74.497382,
    ),
    "HF": ((9, 1), ((0, 0, 0), (0, 0, 4.7)), {"xc": "PBE0", "basis": "sto-3g"}, -98.570327),
    "N2": ((7, 7), ((0, 0, 0), (0, 0, 4.5)), {"xc": "PBE0", "basis": "sto-3g"}, -107.400605),
}


def surface_of(numbers, positions, level):
    molecule = Molecule(numbers=numbers, level=LevelOfTheory(grid_level=0, **level))
    return EnergySurface(prepare(molecule, torch.tensor([positions], dtype=torch.float64)))


def guess_of(surface, noise=0.0, seed=0):
    """The guess's state, its Fock matrix disturbed (Hartree)."""
    fock = surface.geometry.orthogonal(surface.geometry.guess_fock)
    generator = torch.Generator().manual_seed(seed)
    disturbance = noise * torch.randn(fock.shape, generator=generator, dtype=torch.float64)
    return occupied_projector(fock + disturbance + disturbance.mT, surface.nocc)[0][0]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=pytest.mark.slow if name == "N2" else (), id=name)
        for name, case in STRETCHED.items()
    ],
)
def test_it_is_the_lowest_whatever_it_begins_from(case):
    *asked, energy = case
    surface = surface_of(*asked)
    for seed, noise in enumerate((0.0, 0.5)):
        found = minima(surface, guess_of(surface, noise, seed))
        assert found[0].converged
        assert found[0].place.energy == pytest.approx(energy, abs=3e-6)
        assert np.all(np.diff([each.place.energy for each in found]) >= 0)


@pytest.mark.slow
@pytest.mark.parametrize("case", STRETCHED.values(), ids=STRETCHED)
def test_pyscf_finds_none_that_is_lower(case):
    *asked, energy = case
    geometry = surface_of(*asked).geometry
    reference = reference_scf(geometry.molecule, geometry.positions[0].numpy())
    assert energy - 1e-5 < reference.energy < energy + 1e-4


def test_a_safe_solution_is_not_looked_for_twice():
    surface = EnergySurface(prepared("H2O", grid_level=0, xc="LDA", basis="sto-3g"))
    (first,) = minima(surface, guess_of(surface))
    assert first.place.gap > 0.1
    before = surface.nbuilds
    (second,) = minima(surface, first.place.projector)
    assert surface.nbuilds - before == 1
    assert second.place.energy == pytest.approx(first.place.energy, abs=1e-9)


def test_a_state_that_is_no_number_is_left_out():
    surface = EnergySurface(prepared("H2O", grid_level=0, xc="LDA", basis="sto-3g"))
    broken = torch.full_like(surface.geometry.orthogonaliser[0], torch.nan)
    (found,) = minima(surface, broken)
    (expected,) = minima(surface, guess_of(surface))
    assert found.place.energy == pytest.approx(expected.place.energy, abs=1e-6)
