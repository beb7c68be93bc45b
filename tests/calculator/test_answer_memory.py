"""What is remembered of the last geometries: how often a model is evaluated, and when anew."""

import copy
import pickle
import weakref

import numpy as np
import pytest
from ase import Atoms
from ase.mep import NEB
from ase.optimize.bfgslinesearch import BFGSLineSearch

from ase_srdft import SRDFTCalculator
from ase_srdft.calculator.answer_memory import AnswerMemory
from tests.tools.counted_evaluations import counted
from tests.tools.small_models import small_model, water


@pytest.fixture(scope="module")
def model():
    return small_model(grid_level=0)


@pytest.fixture
def calc(model):
    return SRDFTCalculator(model, max_error=None)


def shared(calc, count):
    """Images of water along a displacement, with one calculator."""
    images = [water(0.1 * index) for index in range(count)]
    for image in images:
        image.calc = calc
    return images


def both(calc, atoms):
    return calc.get_potential_energy(atoms), calc.get_forces(atoms)


def test_a_band_evaluates_every_image_once_a_step(calc, monkeypatch):
    calls = counted(monkeypatch)
    images = shared(calc, 5)
    band = NEB(images, method="improvedtangent", allow_shared_calculator=True)
    forces = band.get_forces()
    assert abs(forces).max() > 0.01
    assert len(calls) == 5
    np.testing.assert_array_equal(band.get_forces(), forces)
    assert len(calls) == 5
    for step in range(1, 3):
        band.set_positions(band.get_positions() + 0.01)
        band.get_forces()
        assert len(calls) == 5 + 3 * step  # the ends stay where they are


def test_the_band_of_a_shared_calculator_is_that_of_several(calc, model):
    images = shared(calc, 4)
    together = NEB(images, method="improvedtangent", allow_shared_calculator=True).get_forces()
    for image in images:
        image.calc = SRDFTCalculator(model, max_error=None)
    np.testing.assert_array_equal(together, NEB(images, method="improvedtangent").get_forces())


def test_a_line_search_evaluates_every_point_once(calc, monkeypatch):
    calls, points = counted(monkeypatch), set()
    atoms = water(0.1)
    atoms.calc = calc
    original = calc.calculate

    def calculate(atoms, *arguments):
        points.add(atoms.positions.tobytes())
        original(atoms, *arguments)

    monkeypatch.setattr(calc, "calculate", calculate)
    BFGSLineSearch(atoms, logfile=None).run(fmax=0.02, steps=20)
    assert len(points) > 4
    assert len(calls) == len(points) + 1  # the first point of which forces followed the energy


def test_forces_after_an_energy_are_those_asked_for_at_once(calc, model, monkeypatch):
    calls = counted(monkeypatch)
    calc.calculate(water(), ["energy"])
    calc.calculate(water(), ["forces"])  # twice, the first time
    for shift in (0.1, 0.2):
        energy, forces = both(calc, water(shift))
        alone = SRDFTCalculator(model, max_error=None)
        alone.calculate(water(shift), ["forces"])
        assert energy == alone.results["energy"]
        np.testing.assert_array_equal(forces, alone.results["forces"])
    assert calls == [False, True, True, True, True, True]


def test_energies_alone_are_without_a_graph(calc, monkeypatch):
    calls = counted(monkeypatch)
    for shift in range(3):
        calc.get_potential_energy(water(0.1 * shift))
    assert calls == [False] * 3
    both(calc, water(0.3))
    assert calls == [False] * 4 + [True]
    for shift in range(6):
        calc.get_potential_energy(water(-0.01 * (shift + 1)))
    assert calls[5:] == [True] * 4 + [False] * 2  # it has been in vain for long enough


def test_there_is_one_graph_at_a_time(calc, monkeypatch):
    both(calc, water())
    graphs = []
    for shift in (0.1, 0.2):
        calc.get_potential_energy(water(shift))
        graphs.append(weakref.ref(calc._runner.memory._graph[1].total))
    assert [graph() is None for graph in graphs] == [True, False]
    calc.get_forces(water(0.2))
    assert graphs[1]() is None


def changed(calc):
    other = small_model(seed=1, grid_level=0)
    calc.update_model(other)


WAYS = {
    "better weights": changed,
    "another model": lambda calc: calc.set(model=small_model(seed=1, grid_level=0)),
}


@pytest.mark.parametrize("renew", WAYS.values(), ids=WAYS)
def test_new_weights_answer_anew(calc, renew):
    images = shared(calc, 3)
    both(calc, water(-0.1))
    before = [image.get_potential_energy() for image in images]  # the last one with its graph
    renew(calc)
    new = SRDFTCalculator(small_model(seed=1, grid_level=0), max_error=None)
    for image, energy in zip(reversed(images), reversed(before), strict=True):
        assert abs(image.get_potential_energy() - energy) > 1e-3
        assert image.get_potential_energy() == new.get_potential_energy(image)
        np.testing.assert_array_equal(image.get_forces(), new.get_forces(image))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_start_with_no_memory_and_the_original_keeps_its_own(calc, again, monkeypatch):
    images = shared(calc, 3)
    both(calc, images[0])
    energies = [image.get_potential_energy() for image in images]
    other, calls = again(calc), counted(monkeypatch)
    assert [other.get_potential_energy(image) for image in images] == energies
    assert len(calls) == 3
    assert [calc.get_potential_energy(image) for image in images] == energies
    assert len(calls) == 3


def test_a_reset_forgets(calc, monkeypatch):
    calls = counted(monkeypatch)
    for _ in range(2):
        calc.get_potential_energy(water())
        calc.reset()
    assert len(calls) == 2


def test_results_that_are_changed_are_not_those_remembered(calc):
    _, forces = both(calc, water())
    calc.results["forces"][:] = 0.0
    calc.get_potential_energy(water(0.1))
    np.testing.assert_array_equal(calc.get_forces(water()), forces)
    assert abs(forces).max() > 0.1


def test_elements_charges_and_the_masses_of_ions_tell_geometries_apart(model):
    ion = SRDFTCalculator(
        small_model(elements=(1, 8), charge=-1, grid_level=0), charge=-1, max_error=None
    )
    hydroxide = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]])
    light = ion.get_dipole_moment(hydroxide)
    hydroxide.set_masses([16.0, 2.0])
    ion.reset()
    heavy = ion.get_dipole_moment(hydroxide)
    assert abs(heavy - light).max() > 1e-3
    calc = SRDFTCalculator(model, max_error=None)
    calc.get_potential_energy(water())
    swapped = water()
    swapped.numbers[:] = [1, 8, 1]
    assert abs(calc.get_potential_energy(swapped) - calc.get_potential_energy(water())) > 1.0


def test_a_cell_makes_no_difference(calc, monkeypatch):
    energy = calc.get_potential_energy(water())
    calls = counted(monkeypatch)
    boxed = water()
    boxed.cell = [10.0, 10.0, 10.0]
    assert calc.get_potential_energy(boxed) == energy
    assert not calls


def test_the_least_recent_geometry_goes_first(calc):
    calc.get_potential_energy(water())
    answer = calc.results, calc.electronic_state, 0
    memory = AnswerMemory(size=2)
    keys = [((1,), 0, bytes([index]), b"") for index in range(3)]
    for key in keys[:2]:
        memory.keep(key, answer, None)
    assert memory.answer(keys[0], forces=False) is not None
    memory.keep(keys[2], answer, None)
    known = [memory.answer(key, forces=False) is not None for key in keys]
    assert known == [True, False, True]


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_digit_that_counts(model, threads):
    images = [water(0.05 * index) for index in range(3)]
    one, several = (
        SRDFTCalculator(model, max_error=None),
        SRDFTCalculator(model, threads=threads, max_error=None),
    )
    assert several.parameters["threads"] == several.todict()["threads"] == threads
    for first, second in zip(
        one.evaluate_batch(images), several.evaluate_batch(images), strict=True
    ):
        assert second["energy"] == pytest.approx(first["energy"], rel=0, abs=1e-9)
        np.testing.assert_allclose(second["forces"], first["forces"], atol=1e-8)
    alone = [calc.get_forces(images[0]) for calc in (one, several)]
    np.testing.assert_allclose(alone[1], alone[0], atol=1e-8)
    assert pickle.loads(pickle.dumps(several))._runner.threads.nthreads == threads


def test_kernels_have_the_threads_that_geometries_leave(model, monkeypatch):
    from ase_srdft.calculator import model_runner
    from ase_srdft.dft.kernels.library import thread_count

    seen = []

    def note(original):
        def inside(*arguments):
            seen.append((len(arguments[2]), thread_count()))
            return original(*arguments)

        return inside

    for name in ("single_point", "open_single_point"):
        monkeypatch.setattr(model_runner, name, note(getattr(model_runner, name)))
    calc = SRDFTCalculator(model, threads=4, max_error=None)
    calc.get_potential_energy(water())
    calc.evaluate_batch([water(0.1 * k) for k in range(2)], forces=False)
    calc.evaluate_batch([water(0.1 * k) for k in range(4)], forces=False, batch_size=4)
    assert seen == [(1, 4), (1, 2), (1, 2), (1, 1), (1, 1), (1, 1), (1, 1)]
    assert thread_count() == 1
