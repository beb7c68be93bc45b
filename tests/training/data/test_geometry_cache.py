"""Integrals kept within a memory budget: what is returned is always what fresh ones are."""

import contextlib
import re
from dataclasses import fields

import numpy as np
import pytest
import torch
from ase.units import Bohr

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.kernels import becke
from ase_srdft.dft.kernels.library import loaded, thread_count
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import concatenate
from ase_srdft.parallel.thread_map import ThreadMap
from ase_srdft.training.data import geometry_cache
from ase_srdft.training.data.geometry_cache import GeometryCache
from tests.tools.molecules import system
from tests.tools.small_training import rattled

LEVEL = {"xc": "LDA", "basis": "sto-3g", "grid_level": 0}
WATER = system("H2O", **LEVEL)[0]
HYDROGEN = system("H2", **LEVEL)[0]
POSITIONS = [atoms.positions / Bohr for atoms in rattled(6)]


def fresh(molecule, positions, grid_level=COARSE_GRID):
    return prepare(
        molecule,
        torch.tensor(np.array(positions)).reshape(-1, *np.shape(positions)[-2:]),
        grid_level,
    )


def numbers_of(geometry):
    integrals = [getattr(geometry.integrals, field.name) for field in fields(geometry.integrals)]
    grid = geometry.grid
    own = [geometry.positions, geometry.orthogonaliser, geometry.guess_fock]
    return [t for t in [*own, *integrals, grid.weights] if t is not None]


def assert_equal(first, second):
    assert first.molecule is second.molecule
    pairs = list(zip(numbers_of(first), numbers_of(second), strict=True))
    assert len(pairs) >= 8
    for one, other in pairs:
        assert float(one.abs().max()) > 1e-3
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)


ONE = fresh(WATER, POSITIONS[0]).nbytes


def cache_for(ngeometries=100.0, molecules=(WATER,), coarse_grid=True, nthreads=1, nworking=0):
    return GeometryCache(
        molecules,
        int(ngeometries * ONE),
        coarse_grid,
        torch.device("cpu"),
        ThreadMap(nthreads),
        nworking,
    )


@pytest.fixture
def prepared_keys(monkeypatch):
    """The keys whose integrals a cache makes, in order."""
    made = []
    original = GeometryCache._prepare

    def counting(self, key):
        made.append(key)
        return original(self, key)

    monkeypatch.setattr(geometry_cache.GeometryCache, "_prepare", counting)
    return made


@pytest.mark.parametrize("nthreads", [1, 2])
@pytest.mark.parametrize("ngeometries", [0.5, 2.0, 100.0])
def test_results_equal_fresh_ones_whatever_the_budget(ngeometries, nthreads):
    cache = cache_for(ngeometries, nthreads=nthreads)
    keys = [cache.add(0, positions) for positions in POSITIONS]
    for chosen in ([0, 1], [1, 2, 3], [3, 3, 0], [5, 4, 0]):
        (found,) = cache.batches([keys[index] for index in chosen])
        expected = fresh(WATER, [POSITIONS[index] for index in chosen])
        assert_equal(found, expected)
        assert cache.nbytes <= cache.memory_bytes


def test_memory_budget_holds_and_is_used(prepared_keys):
    cache = cache_for(3.5)
    keys = [cache.add(0, positions) for positions in POSITIONS]
    cache.batches(keys)
    assert cache.nbytes == 3 * ONE
    assert prepared_keys == keys
    cache.batches(keys[3:])  # the three that came last are still there
    assert prepared_keys == keys


def test_least_recently_used_goes(prepared_keys):
    cache = cache_for(2.5)
    keys = [cache.add(0, positions) for positions in POSITIONS[:3]]
    cache.batches(keys[:1])
    cache.batches(keys[1:2])
    cache.batches(keys[:1])  # the second is now the one not used for longest
    cache.batches(keys[2:])
    assert prepared_keys == keys
    cache.batches([keys[0], keys[2]])
    assert prepared_keys == keys
    cache.batches([keys[1]])
    assert prepared_keys == [*keys, keys[1]]


@pytest.mark.parametrize("ngeometries", [1.0, 5.0, 6.9])
def test_the_memory_that_is_called_for_is_enough(ngeometries):
    cache = cache_for(ngeometries, nworking=2)
    keys = [cache.add(0, positions) for positions in POSITIONS]
    with pytest.warns(UserWarning, match="times as large") as said:
        cache.batches(keys)
    assert len(said) == 1
    factor = float(re.search(r"more than ([\d.]+) times", str(said[0].message))[1])
    assert factor == pytest.approx(7.0 / ngeometries, abs=0.051)  # six at work, and one to keep
    larger = cache_for((factor + 0.06) * ngeometries, nworking=2)
    larger.batches([larger.add(0, positions) for positions in POSITIONS])
    assert larger.nbytes >= ONE
    cache.batches(keys)  # it is said once: warnings are errors here


def test_a_geometry_larger_than_the_budget_is_not_kept(prepared_keys):
    cache = cache_for(0.9)
    key = cache.add(0, POSITIONS[0])
    cache.batches([key])
    cache.batches([key])
    assert prepared_keys == [key, key]
    assert cache.nbytes == 0


@pytest.mark.parametrize(("ngeometries", "kept"), [(9.5, 3), (6.5, 0), (5.0, 0)])
def test_room_is_left_for_geometries_at_work(ngeometries, kept, prepared_keys):
    cache = cache_for(ngeometries, nworking=2)  # which take three times their memory
    keys = [cache.add(0, positions) for positions in POSITIONS]
    with contextlib.nullcontext() if kept else pytest.warns(UserWarning, match="memory_gb"):
        (found,) = cache.batches(keys)
    assert cache.nbytes == kept * ONE
    assert_equal(found, fresh(WATER, POSITIONS))
    cache.batches(keys)
    assert len(prepared_keys) == 12 if kept == 0 else 12 > len(prepared_keys) >= 9


@pytest.mark.skipif(loaded() is None, reason="there are no compiled kernels")
def test_kernels_have_the_threads_that_geometries_leave(monkeypatch):
    seen = []

    def counting():
        seen.append(thread_count())
        return seen[-1]

    monkeypatch.setattr(becke, "thread_count", counting)
    alone, cache = cache_for(), cache_for(nthreads=5)
    for each, chosen in ((5, POSITIONS[:1]), (2, POSITIONS[1:3])):
        seen.clear()
        (found,) = cache.batches([cache.add(0, positions) for positions in chosen])
        assert seen == [each] * len(chosen)
        (expected,) = alone.batches([alone.add(0, positions) for positions in chosen])
        for one, other in zip(numbers_of(found), numbers_of(expected), strict=True):
            assert torch.equal(one, other)


def test_integrals_at_hand_are_used_and_are_a_copy(prepared_keys):
    cache = cache_for()
    batch = fresh(WATER, POSITIONS[:2])
    key = cache.add(0, POSITIONS[1], fresh(WATER, POSITIONS[1]))
    given = fresh(WATER, POSITIONS[0])
    second = cache.add(0, POSITIONS[0], given)
    assert cache.nbytes == 2 * ONE
    expected = given.guess_fock.clone()
    given.guess_fock.zero_()
    (found,) = cache.batches([second, key])
    assert prepared_keys == []
    assert_equal(found, batch)
    torch.testing.assert_close(found.guess_fock[:1], expected, rtol=0.0, atol=0.0)


def test_removed_geometries_are_forgotten_with_their_memory():
    cache = cache_for()
    keys = [cache.add(0, positions) for positions in POSITIONS[:2]]
    cache.batches(keys)
    assert cache.nbytes == 2 * ONE
    cache.remove(keys[0])
    assert cache.nbytes == ONE
    with pytest.raises(KeyError):
        cache.batches(keys)
    assert cache.add(0, POSITIONS[2]) not in keys
    cache.remove(keys[1])
    assert cache.nbytes == 0


def test_positions_are_the_stores_own():
    cache = cache_for()
    positions = POSITIONS[0].copy()
    key = cache.add(0, positions)
    positions += 1.0
    np.testing.assert_array_equal(cache.positions_of(key), POSITIONS[0])


def test_several_molecules_one_batch_each():
    cache = cache_for(molecules=(WATER, HYDROGEN))
    bond = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]])
    water = [cache.add(0, positions) for positions in POSITIONS[:2]]
    hydrogen = [cache.add(1, bond * scale) for scale in (1.0, 1.1)]
    assert [cache.molecule_of(key) for key in (*water, *hydrogen)] == [0, 0, 1, 1]
    first, second = cache.batches([hydrogen[1], water[0], hydrogen[0], water[1]])
    assert_equal(first, concatenate([fresh(HYDROGEN, bond * 1.1), fresh(HYDROGEN, bond)]))
    assert_equal(second, fresh(WATER, POSITIONS[:2]))


def test_grid_is_the_coarse_one_or_the_levels_own():
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    coarse = cache_for(molecules=(finer,))
    own = cache_for(molecules=(finer,), coarse_grid=False)
    (few,) = coarse.batches([coarse.add(0, POSITIONS[0])])
    (many,) = own.batches([own.add(0, POSITIONS[0])])
    assert_equal(few, fresh(finer, POSITIONS[0], COARSE_GRID))
    assert_equal(many, fresh(finer, POSITIONS[0], 1))
    assert few.grid.weights.shape[1] < many.grid.weights.shape[1]


def test_a_refined_store_is_on_the_levels_own_grid_and_keeps_its_integrals(prepared_keys):
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    cache = cache_for(molecules=(finer,))
    known = cache.add(0, POSITIONS[0])
    cache.batches([known])
    coarse = cache.nbytes
    cache.refine()
    (found,) = cache.batches([known])
    assert_equal(found, fresh(finer, POSITIONS[0], 1))
    assert cache.nbytes == found.nbytes > coarse
    cache.refine()  # once is enough
    new = cache.add(0, POSITIONS[1])
    assert_equal(cache.batches([new])[0], fresh(finer, POSITIONS[1], 1))
    assert prepared_keys == [known, new]


def test_refining_stays_within_the_memory():
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    size = fresh(finer, POSITIONS[0], 1).nbytes
    cache = cache_for(1.5 * size / ONE, molecules=(finer,))
    keys = [cache.add(0, positions) for positions in POSITIONS[:2]]
    cache.batches(keys)
    assert cache.nbytes > size  # both, on the coarse grid
    cache.refine()
    assert cache.nbytes == size


def test_a_refined_store_refines_what_it_is_given(prepared_keys):
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    cache = cache_for(molecules=(finer,))
    cache.refine()
    key = cache.add(0, POSITIONS[0], fresh(finer, POSITIONS[0], COARSE_GRID))
    assert_equal(cache.batches([key])[0], fresh(finer, POSITIONS[0], 1))
    assert prepared_keys == []


def test_a_store_on_the_levels_own_grid_has_nothing_to_refine():
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    cache = cache_for(molecules=(finer,), coarse_grid=False)
    key = cache.add(0, POSITIONS[0], fresh(finer, POSITIONS[0], 1))
    kept = cache.nbytes
    cache.refine()
    assert cache.nbytes == kept > 0
    assert_equal(cache.batches([key])[0], fresh(finer, POSITIONS[0], 1))


def test_no_gradients_are_recorded():
    cache = cache_for()
    (found,) = cache.batches([cache.add(0, POSITIONS[0])])
    assert not any(tensor.requires_grad for tensor in numbers_of(found))


def test_keys_are_grouped_as_the_batches_are():
    cache = cache_for(molecules=(WATER, HYDROGEN))
    bond = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]])
    waters = [cache.add(0, positions) for positions in POSITIONS[:3]]
    hydrogens = [cache.add(1, bond * stretch) for stretch in (1.0, 1.1)]
    keys = [hydrogens[1], waters[2], waters[0], hydrogens[0], waters[2]]
    groups = cache.by_molecule(keys)
    assert groups == [[hydrogens[1], hydrogens[0]], [waters[2], waters[0], waters[2]]]
    for group, batch in zip(groups, cache.batches(keys), strict=True):
        expected = np.array([cache.positions_of(key) for key in group])
        np.testing.assert_array_equal(batch.positions.numpy(), expected)
