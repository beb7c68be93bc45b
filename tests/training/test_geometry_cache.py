"""Integrals kept within a memory budget: what is returned is always what fresh ones are."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from ase.units import Bohr

from ase_srdft.dft.grid.atomic_grid import COARSE_GRID
from ase_srdft.dft.prepared_geometry import concatenate, prepare
from ase_srdft.parallel.threads import Workers
from ase_srdft.training import geometry_cache as store_module
from ase_srdft.training.geometry_cache import GeometryStore
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
    return [t for t in [*own, *integrals, grid.points, grid.weights] if t is not None]


def assert_equal(first, second):
    assert first.molecule is second.molecule
    pairs = list(zip(numbers_of(first), numbers_of(second), strict=True))
    assert len(pairs) >= 8
    for one, other in pairs:
        assert float(one.abs().max()) > 1e-3
        torch.testing.assert_close(one, other, rtol=0.0, atol=1e-12)


ONE = fresh(WATER, POSITIONS[0]).nbytes


def store_for(ngeometries=100.0, molecules=(WATER,), coarse_grid=True, nthreads=1):
    return GeometryStore(
        molecules,
        int(ngeometries * ONE),
        coarse_grid,
        torch.device("cpu"),
        Workers(nthreads),
    )


@pytest.fixture
def prepared_keys(monkeypatch):
    """The keys whose integrals a store makes, in order."""
    made = []
    original = GeometryStore._prepare

    def counting(self, key):
        made.append(key)
        return original(self, key)

    monkeypatch.setattr(store_module.GeometryStore, "_prepare", counting)
    return made


@pytest.mark.parametrize("nthreads", [1, 2])
@pytest.mark.parametrize("ngeometries", [0.5, 2.0, 100.0])
def test_results_equal_fresh_ones_whatever_the_budget(ngeometries, nthreads):
    store = store_for(ngeometries, nthreads=nthreads)
    keys = [store.add(0, positions) for positions in POSITIONS]
    for chosen in ([0, 1], [1, 2, 3], [3, 3, 0], [5, 4, 0]):
        (found,) = store.batches([keys[index] for index in chosen])
        expected = fresh(WATER, [POSITIONS[index] for index in chosen])
        assert_equal(found, expected)
        assert store.nbytes <= store.memory_bytes


def test_memory_budget_holds_and_is_used(prepared_keys):
    store = store_for(3.5)
    keys = [store.add(0, positions) for positions in POSITIONS]
    store.batches(keys)
    assert store.nbytes == 3 * ONE
    assert prepared_keys == keys
    store.batches(keys[3:])  # the three that came last are still there
    assert prepared_keys == keys


def test_least_recently_used_goes(prepared_keys):
    store = store_for(2.5)
    keys = [store.add(0, positions) for positions in POSITIONS[:3]]
    store.batches(keys[:1])
    store.batches(keys[1:2])
    store.batches(keys[:1])  # the second is now the one not used for longest
    store.batches(keys[2:])
    assert prepared_keys == keys
    store.batches([keys[0], keys[2]])
    assert prepared_keys == keys
    store.batches([keys[1]])
    assert prepared_keys == [*keys, keys[1]]


def test_a_geometry_larger_than_the_budget_is_not_kept(prepared_keys):
    store = store_for(0.9)
    key = store.add(0, POSITIONS[0])
    store.batches([key])
    store.batches([key])
    assert prepared_keys == [key, key]
    assert store.nbytes == 0


def test_integrals_at_hand_are_used_and_are_a_copy(prepared_keys):
    store = store_for()
    batch = fresh(WATER, POSITIONS[:2])
    key = store.add(0, POSITIONS[1], fresh(WATER, POSITIONS[1]))
    given = fresh(WATER, POSITIONS[0])
    second = store.add(0, POSITIONS[0], given)
    assert store.nbytes == 2 * ONE
    expected = given.guess_fock.clone()
    given.guess_fock.zero_()
    (found,) = store.batches([second, key])
    assert prepared_keys == []
    assert_equal(found, batch)
    torch.testing.assert_close(found.guess_fock[:1], expected, rtol=0.0, atol=0.0)


def test_removed_geometries_are_forgotten_with_their_memory():
    store = store_for()
    keys = [store.add(0, positions) for positions in POSITIONS[:2]]
    store.batches(keys)
    assert store.nbytes == 2 * ONE
    store.remove(keys[0])
    assert store.nbytes == ONE
    with pytest.raises(KeyError):
        store.batches(keys)
    assert store.add(0, POSITIONS[2]) not in keys
    store.remove(keys[1])
    assert store.nbytes == 0


def test_positions_are_the_stores_own():
    store = store_for()
    positions = POSITIONS[0].copy()
    key = store.add(0, positions)
    positions += 1.0
    np.testing.assert_array_equal(store.positions_of(key), POSITIONS[0])


def test_several_molecules_one_batch_each():
    store = store_for(molecules=(WATER, HYDROGEN))
    bond = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]])
    water = [store.add(0, positions) for positions in POSITIONS[:2]]
    hydrogen = [store.add(1, bond * scale) for scale in (1.0, 1.1)]
    assert [store.molecule_of(key) for key in (*water, *hydrogen)] == [0, 0, 1, 1]
    first, second = store.batches([hydrogen[1], water[0], hydrogen[0], water[1]])
    assert_equal(first, concatenate([fresh(HYDROGEN, bond * 1.1), fresh(HYDROGEN, bond)]))
    assert_equal(second, fresh(WATER, POSITIONS[:2]))


def test_grid_is_the_coarse_one_or_the_levels_own():
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    coarse = store_for(molecules=(finer,))
    own = store_for(molecules=(finer,), coarse_grid=False)
    (few,) = coarse.batches([coarse.add(0, POSITIONS[0])])
    (many,) = own.batches([own.add(0, POSITIONS[0])])
    assert_equal(few, fresh(finer, POSITIONS[0], COARSE_GRID))
    assert_equal(many, fresh(finer, POSITIONS[0], 1))
    assert few.grid.points.shape[1] < many.grid.points.shape[1]


def test_a_refined_store_is_on_the_levels_own_grid_and_keeps_its_integrals(prepared_keys):
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    store = store_for(molecules=(finer,))
    known = store.add(0, POSITIONS[0])
    store.batches([known])
    coarse = store.nbytes
    store.refine()
    (found,) = store.batches([known])
    assert_equal(found, fresh(finer, POSITIONS[0], 1))
    assert store.nbytes == found.nbytes > coarse
    store.refine()  # once is enough
    new = store.add(0, POSITIONS[1])
    assert_equal(store.batches([new])[0], fresh(finer, POSITIONS[1], 1))
    assert prepared_keys == [known, new]


def test_refining_stays_within_the_memory():
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    size = fresh(finer, POSITIONS[0], 1).nbytes
    store = store_for(1.5 * size / ONE, molecules=(finer,))
    keys = [store.add(0, positions) for positions in POSITIONS[:2]]
    store.batches(keys)
    assert store.nbytes > size  # both, on the coarse grid
    store.refine()
    assert store.nbytes == size


def test_a_refined_store_refines_what_it_is_given(prepared_keys):
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    store = store_for(molecules=(finer,))
    store.refine()
    key = store.add(0, POSITIONS[0], fresh(finer, POSITIONS[0], COARSE_GRID))
    assert_equal(store.batches([key])[0], fresh(finer, POSITIONS[0], 1))
    assert prepared_keys == []


def test_a_store_on_the_levels_own_grid_has_nothing_to_refine():
    finer = system("H2O", **(LEVEL | {"grid_level": 1}))[0]
    store = store_for(molecules=(finer,), coarse_grid=False)
    key = store.add(0, POSITIONS[0], fresh(finer, POSITIONS[0], 1))
    kept = store.nbytes
    store.refine()
    assert store.nbytes == kept > 0
    assert_equal(store.batches([key])[0], fresh(finer, POSITIONS[0], 1))


def test_no_gradients_are_recorded():
    store = store_for()
    (found,) = store.batches([store.add(0, POSITIONS[0])])
    assert not any(tensor.requires_grad for tensor in numbers_of(found))


def test_keys_are_grouped_as_the_batches_are():
    store = store_for(molecules=(WATER, HYDROGEN))
    bond = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.4]])
    waters = [store.add(0, positions) for positions in POSITIONS[:3]]
    hydrogens = [store.add(1, bond * stretch) for stretch in (1.0, 1.1)]
    keys = [hydrogens[1], waters[2], waters[0], hydrogens[0], waters[2]]
    groups = store.by_molecule(keys)
    assert groups == [[hydrogens[1], hydrogens[0]], [waters[2], waters[0], waters[2]]]
    for group, batch in zip(groups, store.batches(keys), strict=True):
        expected = np.array([store.positions_of(key) for key in group])
        np.testing.assert_array_equal(batch.positions.numpy(), expected)
