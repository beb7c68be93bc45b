"""OverdampedLangevin as an ASE dynamics: the distribution, constraints, files, restart."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.io import Trajectory

from ase_srdft import OverdampedLangevin
from ase_srdft.sampling.integrators import LeimkuhlerMatthews, Mobility
from ase_srdft.sampling.lindh_mobility import mobility, rigid_motions

SPRING = 20.0  # eV/Å²
KELVIN = 500.0


class Springs(Calculator):
    """Every atom on a spring of its own to where it was at first; counts its computations."""

    implemented_properties = ("energy", "forces")

    def __init__(self, home, hessian=None):
        super().__init__()
        self.home = home.copy()
        self.hessian = SPRING * np.eye(home.size) if hessian is None else hessian
        self.ncalls = 0

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.ncalls += 1
        forces = -self.hessian @ (self.atoms.positions - self.home).ravel()
        energy = -0.5 * forces @ (self.atoms.positions - self.home).ravel()
        self.results = {"energy": energy, "forces": forces.reshape(-1, 3)}


def on_springs(atoms=None, hessian=None):
    atoms = Atoms("HO", [[0, 0, 0], [3, 0, 0]]) if atoms is None else atoms
    atoms.calc = Springs(atoms.positions, hessian)
    return atoms


def many_hydrogens(natoms):
    return on_springs(Atoms(f"H{natoms}", 3.0 * np.arange(3 * natoms).reshape(-1, 3)))


@pytest.mark.parametrize(
    ("kind", "timestep"),
    [("friction", 0.8 * units.fs), ("identity", 0.02), ("array", 0.5)],
)
def test_the_variance_is_that_of_equipartition(kind, timestep):
    """Atoms on springs of their own are independent: their spread is the statistical error."""
    atoms = many_hydrogens(100 if kind == "array" else 400)
    array = np.eye(3 * len(atoms)) / SPRING
    dyn = OverdampedLangevin(
        atoms, timestep, KELVIN, rng=1, mobility=array if kind == "array" else kind
    )
    dyn.run(40)
    squares = []
    for _ in dyn.irun(60):
        squares.append((atoms.positions - atoms.calc.home) ** 2)
    per_atom = np.mean(squares, axis=(0, 2))
    error = per_atom.std() / np.sqrt(len(atoms))
    expected = units.kB * KELVIN / SPRING
    assert 0 < error < 0.1 * expected
    assert per_atom.mean() == pytest.approx(expected, abs=3 * error)


def test_a_step_is_that_of_the_equation():
    """With the mobility 1/(mass friction), in ASE's units of time."""
    atoms = on_springs()
    atoms.positions += 0.1
    timestep, friction = 0.7 * units.fs, 0.8 / units.fs
    dyn = OverdampedLangevin(atoms, timestep, KELVIN, rng=2, friction=friction)
    start, forces, noise = atoms.get_positions(), atoms.get_forces(), dyn.noise.copy()
    dyn.run(1)
    weight = timestep / (atoms.get_masses()[:, None] * friction)
    kick = np.sqrt(2 * units.kB * KELVIN * weight) * (noise + dyn.noise) / 2
    assert np.abs(weight * forces).min() > 1e-3
    assert np.abs(kick).min() > 1e-4
    np.testing.assert_allclose(atoms.positions, start + weight * forces + kick, rtol=1e-12)


def test_the_core_does_the_same_steps():
    atoms = on_springs()
    home, rng = atoms.get_positions(), np.random.default_rng(3)
    integrator = LeimkuhlerMatthews(step_size=0.02, thermal_energy=units.kB * KELVIN)

    def potential(positions):
        return np.zeros(1), -SPRING * (positions - home)

    dyn = OverdampedLangevin(atoms, 0.02, KELVIN, rng=3, mobility="identity")
    dyn.run(10)
    state = integrator.init(home[None], potential, rng)
    for _ in range(10):
        state = integrator.step(state, potential, rng)
    assert np.abs(atoms.positions - home).max() > 0.01
    np.testing.assert_allclose(atoms.positions, state.positions[0], rtol=1e-12)


def test_a_step_costs_one_computation():
    atoms = on_springs()
    dyn = OverdampedLangevin(atoms, 0.02, KELVIN, rng=4, mobility="identity")
    dyn.run(10)
    assert atoms.calc.ncalls == 11


def test_model_hessian_keeps_the_orientation_and_follows_the_molecule():
    atoms = molecule("CH3CH2OH")
    hessian = 30.0 * np.eye(27)
    atoms = on_springs(atoms, hessian)
    start = atoms.get_positions()
    dyn = OverdampedLangevin(
        atoms, 0.1, KELVIN, rng=5, mobility="model-hessian", mobility_interval=3
    )
    expected = mobility(atoms.numbers, start / units.Bohr) * units.Bohr**2 / units.Hartree
    np.testing.assert_allclose(dyn.mobility.matrix, expected, rtol=1e-9, atol=1e-12)
    mobilities = []
    for _ in dyn.irun(7):
        mobilities.append(dyn.mobility)
    changes = [a is not b for a, b in pairwise(mobilities[1:])]
    assert changes == [False, False, True, False, False, True]
    moved = (atoms.positions - start).ravel()
    assert np.linalg.norm(moved) > 0.1
    rigid = rigid_motions(start / units.Bohr)
    assert np.linalg.norm(rigid.T @ moved) < 0.05 * np.linalg.norm(moved)


@pytest.mark.parametrize("kind", ["friction", "model-hessian"])
def test_fixed_atoms_stay(kind):
    atoms = on_springs(molecule("CH3CH2OH"))
    atoms.set_constraint(FixAtoms([0, 4]))
    start = atoms.get_positions()
    OverdampedLangevin(
        atoms, 0.2 if kind == "model-hessian" else units.fs, KELVIN, rng=6, mobility=kind
    ).run(5)
    moved = np.linalg.norm(atoms.positions - start, axis=1)
    assert (moved[[0, 4]] == 0).all()
    assert np.delete(moved, [0, 4]).min() > 1e-3


def test_fixed_atoms_do_not_disturb_the_distribution_of_the_others():
    """Two coupled atoms, one fixed: the other feels its own block of the Hessian alone."""
    rng = np.random.default_rng(7)
    factor = rng.standard_normal((6, 6))
    hessian = 10 * np.eye(6) + 3 * factor @ factor.T
    atoms = on_springs(hessian=hessian)
    atoms.set_constraint(FixAtoms([0]))
    array = np.linalg.inv(hessian + 3 * np.diag(rng.random(6)))  # couples both atoms
    dyn = OverdampedLangevin(atoms, 0.6, KELVIN, rng=8, mobility=array)
    samples = []
    for _ in dyn.irun(6000):
        samples.append(atoms.positions[1] - atoms.calc.home[1])
    blocks = np.array(samples[1:]).reshape(60, 100, 3)
    covariances = np.einsum("bni,bnj->bij", blocks, blocks) / 100
    error = covariances.std(axis=0) / np.sqrt(len(blocks))
    expected = units.kB * KELVIN * np.linalg.inv(hessian[3:, 3:])
    assert np.abs(expected).min() > 0
    assert np.abs((covariances.mean(axis=0) - expected) / error).max() < 3.5


def test_momenta_are_zero():
    atoms = on_springs()
    atoms.set_momenta(np.ones((2, 3)))
    dyn = OverdampedLangevin(atoms, units.fs, KELVIN, rng=9)
    for _ in dyn.irun(3):
        assert (atoms.get_momenta() == 0).all()


def test_trajectory_log_and_observers(tmp_path):
    atoms = on_springs()
    dyn = OverdampedLangevin(
        atoms,
        0.5 * units.fs,
        KELVIN,
        rng=10,
        trajectory=str(tmp_path / "a.traj"),
        logfile=str(tmp_path / "a.log"),
        loginterval=2,
    )
    seen = []
    dyn.attach(lambda: seen.append(atoms.get_potential_energy()), interval=3)
    with dyn:
        assert dyn.run(6)
    assert len(seen) == 3
    assert len((tmp_path / "a.log").read_text().splitlines()) == 1 + 4
    with Trajectory(tmp_path / "a.traj") as trajectory:
        images = list(trajectory)
        description = trajectory.description
    assert len(images) == 4
    np.testing.assert_array_equal(images[-1].positions, atoms.positions)
    assert images[-1].get_potential_energy() == atoms.get_potential_energy()
    assert description["md-type"] == "OverdampedLangevin"
    assert description["temperature_K"] == KELVIN
    assert description["mobility"] == "friction"
    assert description["friction"] == pytest.approx(1 / units.fs)
    assert description["timestep"] == pytest.approx(0.5 * units.fs)


def test_every_setting_fits_into_a_trajectory(tmp_path):
    for kind in ("identity", "model-hessian", np.eye(6)):
        dyn = OverdampedLangevin(
            on_springs(), 0.01, KELVIN, rng=11, mobility=kind, trajectory=tmp_path / "a.traj"
        )
        dyn.run(1)
        with Trajectory(tmp_path / "a.traj") as trajectory:
            expected = kind if isinstance(kind, str) else "array"
            assert trajectory.description["mobility"] == expected


def test_restart_is_bit_identical():
    def start(atoms, rng):
        return OverdampedLangevin(
            atoms, 0.2, KELVIN, rng=rng, mobility="model-hessian", mobility_interval=4
        )

    atoms = on_springs(molecule("H2O"))
    dyn = start(atoms, np.random.default_rng(12))
    dyn.run(5)
    again_atoms = atoms.copy()
    again_atoms.calc = Springs(atoms.calc.home)
    rng = np.random.default_rng()
    again = start(again_atoms, rng)
    again.noise, again.nsteps = dyn.noise.copy(), dyn.nsteps
    again.mobility = Mobility(square_root=dyn.mobility.square_root.copy())
    rng.bit_generator.state = dyn.rng.bit_generator.state
    dyn.run(6)
    again.run(6)
    assert np.abs(atoms.positions - atoms.calc.home).max() > 0.01
    np.testing.assert_array_equal(atoms.positions, again_atoms.positions)


def test_the_seed_decides():
    ends = []
    for rng in (13, np.random.default_rng(13), 14):
        atoms = on_springs()
        OverdampedLangevin(atoms, units.fs, KELVIN, rng=rng).run(3)
        ends.append(atoms.get_positions())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert np.abs(ends[0] - ends[2]).min() > 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"timestep": 0.0}, "step_size is 0.0"),
        ({"temperature_K": -1.0}, "thermal_energy is -"),
        ({"friction": 0.0}, "friction is 0.0; it must be positive"),
        ({"mobility": "fast"}, "unknown mobility 'fast'"),
        ({"mobility": np.eye(5)}, r"shape \(5, 5\); 2 atoms need \(6, 6\)"),
        ({"mobility": -np.eye(6)}, "eigenvalue -1"),
        ({"mobility": "identity", "friction": 1.0}, "'identity' has none"),
        ({"mobility_interval": 5}, "mobility_interval is 5, but the mobility 'friction' has none"),
        ({"mobility": "model-hessian", "mobility_interval": 0}, "mobility_interval is 0"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(ValueError, match=words):
        OverdampedLangevin(on_springs(), **({"timestep": 1.0, "temperature_K": KELVIN} | settings))
