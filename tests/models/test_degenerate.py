"""Frontier orbitals of one energy: forces that are right, or a refusal that says why."""

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, InputError

from ase_srdft import SRDFTCalculator
from ase_srdft.common.errors import DegenerateState, ReferenceNotConverged
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import DEGENERATE_GAP, noted_gaps, occupied_projector
from ase_srdft.models.model_file import build_model
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.reference.accuracy import frame_errors
from ase_srdft.sampling.config import SamplingConfig
from ase_srdft.sampling.sampler import Sampler
from ase_srdft.sampling.workers.resumable_sampler import model_energy_surface
from ase_srdft.training.losses import EnergyLoss
from tests.dft.test_projector import with_eigenvalues
from tests.tools.molecules import symmetric
from tests.tools.small_models import LEVEL, orbital_model, small_model


def ethylene(angle):
    """Ethylene, twisted about its double bond by an angle in degrees."""
    atoms = molecule("C2H4")
    near = [i for i in range(2, 6) if atoms.get_distance(i, 1) < 1.3]
    half = atoms[near]
    half.rotate(angle, atoms.positions[1] - atoms.positions[0], center=atoms.positions[1])
    atoms.positions[near] = half.positions
    return atoms


def square_cyclobutadiene():
    ring = 1.44 / np.sqrt(2.0)
    corners = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    return Atoms("C4H4", np.vstack([ring * corners, (ring + 1.08) * corners]))


def tetrahedral_so4():
    corners = np.array([[1, 1, 1], [-1, -1, 1], [-1, 1, -1], [1, -1, -1]]) * 1.49 / np.sqrt(3.0)
    return Atoms("SO4", np.vstack([[0, 0, 0], corners]))


DEGENERATE = {
    "twisted ethylene": ethylene(90.0),
    "square C4H4": square_cyclobutadiene(),
    "tetrahedral SO4": tetrahedral_so4(),
    "oxygen molecule": Atoms("O2", [[0, 0, 0], [0, 0, 1.21]]),
    "carbon atom": Atoms("C"),
    "NH": Atoms("NH", [[0, 0, 0], [0, 0, 1.04]]),
}


def calculator(**options):
    return SRDFTCalculator("untrained", **(LEVEL | {"grid_level": 0} | options), max_error=None)


@pytest.mark.parametrize("atoms", DEGENERATE.values(), ids=DEGENERATE)
def test_forces_of_a_degenerate_state_are_refused(atoms):
    calc = calculator()
    with pytest.raises(CalculationFailed, match=r"degenerate: a gap of \d\.\de[-+]\d+ Hartree"):
        calc.get_forces(atoms)
    assert calc.results == {}


def test_the_energy_of_a_degenerate_state_comes_with_a_warning():
    calc = calculator()
    with pytest.warns(DegenerateState, match="degenerate: a gap of"):
        energy = calc.get_potential_energy(ethylene(90.0))
    with pytest.warns(DegenerateState):
        bracket = calculator().evaluate_batch([ethylene(90.0)], forces=False)
    assert bracket[0]["energy"] == energy
    # why: one turn of rounding away lies another energy
    assert abs(calc.get_potential_energy(ethylene(89.99)) - energy) > 1.0


@pytest.mark.parametrize("name", ["C6H6", "NH3", "CH4", "C2H2", "N2", "H2O"])
def test_orbitals_degenerate_on_one_side_are_no_matter(name):
    atoms = molecule(name)
    atoms.calc = calculator()
    forces = atoms.get_forces()
    assert 1e-3 < abs(forces).max() < 50.0
    assert abs(forces.sum(0)).max() < 1e-6


def test_all_orbitals_occupied_have_no_gap():
    atoms = Atoms("He2", [[0, 0, 0], [0, 0, 1.5]])
    atoms.calc = calculator()
    assert abs(atoms.get_forces()).max() > 0.1


@pytest.mark.parametrize(("angle", "step", "error"), [(89.0, 1e-6, 1e-6), (89.9, 1e-8, 1e-4)])
def test_forces_near_a_degenerate_state_are_the_derivative_of_the_energy(angle, step, error):
    atoms = ethylene(angle)
    model = calculator().model_for(atoms)
    ours = molecule_of(model, tuple(atoms.numbers.tolist()))
    positions = torch.tensor(atoms.positions / units.Bohr)[None]
    there = single_point(model, ours, positions)
    direction = torch.tensor(np.random.default_rng(0).standard_normal(positions.shape))
    energies = [
        float(single_point(model, ours, positions + k * step * direction, forces=False).energy)
        for k in (-2, -1, 1, 2)
    ]
    slope = (8.0 * (energies[2] - energies[1]) - (energies[3] - energies[0])) / (12.0 * step)
    assert abs(slope) > 0.1
    assert -float((there.forces * direction).sum()) == pytest.approx(slope, rel=error)


@pytest.mark.parametrize("family", ["fock", "qpt", "coefficient"])
@pytest.mark.parametrize("guess", ["roothaan", "sap", "core"])
def test_the_gap_of_every_projector_counts(family, guess):
    config = {} if family == "coefficient" else {"guess": guess}
    if family == "fock":
        level = LevelOfTheory(**LEVEL, grid_level=0)
        small = {"features": 8, "layers": 1, "guess": guess}
        model = build_model("fock", level, (1, 6), small).double()
    else:
        model = orbital_model(family, elements=(1, 6), **config)
    numbers = tuple(ethylene(0.0).numbers.tolist())
    positions = [torch.tensor(ethylene(a).positions / units.Bohr) for a in (90.0, 40.0)]
    there = single_point(model, molecule_of(model, numbers), torch.stack(positions))
    assert bool(torch.isfinite(there.forces[1]).all())
    assert there.degeneracy(1) is None
    finite = bool(torch.isfinite(there.forces[0]).all())
    assert finite == (there.degeneracy(0) is None)
    assert not finite or float(there.forces[0].abs().max()) < 1e3


def test_a_batch_names_the_image():
    images = [ethylene(angle) for angle in (0.0, 30.0, 90.0, 60.0)]
    with pytest.raises(CalculationFailed, match=r"^image 2: .*degenerate"):
        calculator().evaluate_batch(images, batch_size=3)
    images[2] = molecule("H2O")
    calc = calculator()
    calc.model_for(images[0])
    with pytest.raises(InputError, match=r"^image 2: .*does not know O"):
        calc.evaluate_batch(images)
    results = calc.evaluate_batch([images[0], images[1], images[3]], batch_size=2)
    assert all(0.1 < abs(r["forces"]).max() < 50.0 for r in results)


@pytest.mark.parametrize("gap", [0.0, 1e-10, 1e-8, 1e-6])
def test_the_gradient_of_a_degenerate_pair_is_left_out(gap):
    fock = with_eigenvalues([-3.0, -1.5, 0.0, gap, 0.9, 2.0]).requires_grad_()
    apart = with_eigenvalues([-3.0, -1.5, 0.0, 0.9, 2.0, 3.0]).requires_grad_()
    cotangent = symmetric(1, 6, 6)
    with noted_gaps() as gaps:
        gradients = [
            torch.autograd.grad(occupied_projector(x, 3)[0], x, cotangent)[0] for x in (fock, apart)
        ]
    assert float(gaps[0]) == pytest.approx(gap, abs=1e-14)
    assert float(gaps[0]) < DEGENERATE_GAP < float(gaps[1])
    sizes = [float(gradient.abs().max()) for gradient in gradients]
    assert 0.1 < sizes[0] < 10.0 * sizes[1]


def test_gaps_are_noted_only_in_the_block_that_asked():
    fock = with_eigenvalues([-1.0, 0.5, 1.0])
    with noted_gaps() as outer:
        occupied_projector(fock, 1)
        with noted_gaps() as inner:
            occupied_projector(fock, 2)
            occupied_projector(fock, 3)  # none is empty: no gap
        occupied_projector(fock, 1)
    occupied_projector(fock, 1)
    assert [float(gap) for gap in outer] == pytest.approx([1.5, 1.5])
    assert [float(gap) for gap in inner] == pytest.approx([0.5])


def test_a_degenerate_geometry_does_not_poison_a_training_step():
    model = small_model(elements=(1, 6), grid_level=0)
    molecule = molecule_of(model, tuple(ethylene(0.0).numbers.tolist()))
    gradients = []
    for angles in ([20.0, 90.0], [20.0, 40.0]):
        positions = np.stack([ethylene(angle).positions / units.Bohr for angle in angles])
        with torch.no_grad():
            geometry = prepare(molecule, torch.tensor(positions))
        energies, _ = EnergyLoss().losses_of(model, [geometry], ThreadMap())
        model.zero_grad()
        energies.mean().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        )
    norms = [float(gradient.norm()) for gradient in gradients]
    assert 0.0 < norms[0] < 1e3 * norms[1]


def test_the_sampler_loses_the_degenerate_walker_alone():
    model = small_model(elements=(1, 6), grid_level=0).double().eval().requires_grad_(False)
    numbers = tuple(ethylene(0.0).numbers.tolist())
    molecules = [molecule_of(model, numbers)]
    surface = model_energy_surface(model, molecules, False, torch.device("cpu"), ThreadMap())
    config = SamplingConfig(temperature_K=100.0, energy_spike=1e3, allow_reactions=True)
    sampler = Sampler(config, molecules, surface)
    starts, reference = (
        np.stack([ethylene(angle).positions / units.Bohr for angle in angles])
        for angles in ((90.0, 0.0, 5.0), (0.0,))
    )
    rng = np.random.default_rng(0)
    sampler.init([starts], [reference[0]], rng)
    finite = np.isfinite(sampler.groups[0].state.forces).all((1, 2))
    assert finite.tolist() == [False, True, True]
    first = sampler.sample(1, rng)
    assert {sample.walker for sample in first.samples} == {1, 2}
    assert first.resets["not finite or too close"] == 1
    assert {sample.walker for sample in sampler.sample(1, rng).samples} == {0, 1, 2}


def test_the_comparison_with_the_scf_refuses_forces_of_a_degenerate_frame():
    model = small_model(elements=(1, 6), grid_level=0).double()
    with pytest.raises(ReferenceNotConverged, match=r"^frame 1: no forces, .* degenerate"):
        list(frame_errors(model, [ethylene(0.0), ethylene(90.0)]))
