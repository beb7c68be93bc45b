"""The user's torch and NumPy: whatever their state, the same numbers, and the state as it was."""

import copy
import os
import pickle
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from ase_srdft import SRDFTCalculator
from ase_srdft.common.torch_state import plain_state, seeded, single_precision, undisturbed
from ase_srdft.models.model_file import load_model, save_model
from tests.dynamics.test_self_refining_langevin import dynamics, untrained_water
from tests.tools.small_models import small_model, water
from tests.tools.small_training import small_config, small_trainer


@contextmanager
def changed(getter, setter, value):
    before = getter()
    setter(value)
    try:
        yield
    finally:
        setter(before)


def default_dtype(dtype):
    return changed(torch.get_default_dtype, torch.set_default_dtype, dtype)


STATES = {
    "no_grad": torch.no_grad,
    "set_grad_enabled": lambda: torch.set_grad_enabled(False),
    "inference_mode": torch.inference_mode,
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "meta": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu"),
    "deterministic": lambda: changed(
        torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, True
    ),
    "anomaly": lambda: torch.autograd.set_detect_anomaly(True),
    "seterr": lambda: np.errstate(all="raise"),
    "warnings": lambda: warnings.catch_warnings(action="error"),
}


def state():
    """All that a user may have set, or goes on with (Python's ``random``: beartype draws, too)."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "threads": torch.get_num_threads(),
        "generator": torch.default_generator.get_state().numpy().tobytes(),
        "numpy": np.random.get_state()[1].tobytes(),
        "errors": np.geterr(),
    }


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "water.srdft"
    save_model(path, small_model(grid_level=0), {})
    return path


@pytest.fixture(scope="module")
def expected(model_file):
    atoms = water()
    atoms.calc = SRDFTCalculator(model_file)
    assert abs(atoms.get_forces()).max() > 0.1
    return atoms.calc


STAGES = ("construction", "energy", "electrons", "batch", "copies", "forces")
ONE_BY_ONE = [pytest.param(stage, marks=pytest.mark.slow) for stage in STAGES]


@pytest.mark.parametrize("stage", ["all", *ONE_BY_ONE])
@pytest.mark.parametrize("name", STATES)
def test_a_calculator_in_any_state(name, stage, model_file, expected):
    def on(this):
        return STATES[name]() if stage in (this, "all") else nullcontext()

    before, atoms = state(), water()
    with on("construction"):
        atoms.calc = SRDFTCalculator(model_file)
    with on("energy"):
        energy = atoms.get_potential_energy()
    with on("electrons"):
        bracket, gap = atoms.calc.energy_bracket, atoms.calc.get_homo_lumo()
    with on("batch"):
        (batch,) = atoms.calc.evaluate_batch([atoms])
    with on("copies"):
        copies = [copy.deepcopy(atoms.calc), pickle.loads(pickle.dumps(atoms.calc))]
    with on("forces"):
        inside = state()
        forces = atoms.get_forces()
        assert state() == inside
    assert state() == before
    assert energy == pytest.approx(expected.results["energy"], rel=1e-12)
    assert bracket == pytest.approx(expected.energy_bracket, rel=1e-12)
    assert gap == pytest.approx(expected.get_homo_lumo(), rel=1e-12)
    for found in (forces, batch["forces"], *(other.get_forces(atoms) for other in copies)):
        np.testing.assert_allclose(found, expected.results["forces"], atol=1e-10)
    atoms.calc.reset()  # and no call has broken it for those to come
    np.testing.assert_allclose(atoms.get_forces(), expected.results["forces"], atol=1e-10)


@pytest.mark.parametrize("name", STATES)
def test_a_model_of_any_state(name, model_file, expected, tmp_path):
    with STATES[name]():
        model = load_model(model_file).model
        save_model(tmp_path / "again.srdft", model, {})
        untrained = SRDFTCalculator("untrained", xc="PBE", basis="sto-3g", grid_level=0).model_for(
            water()
        )
    for given in (model, tmp_path / "again.srdft"):
        forces = SRDFTCalculator(given).get_forces(water())
        np.testing.assert_allclose(forces, expected.results["forces"], atol=1e-10)
    plain = SRDFTCalculator("untrained", xc="PBE", basis="sto-3g", grid_level=0).model_for(water())
    for one, other in zip(untrained.parameters(), plain.parameters(), strict=True):
        assert one.dtype == torch.float64
        assert torch.equal(one, other)


@pytest.fixture(scope="module")
def trained():
    return trace_of_training()[0]


def trace_of_training():
    trainer, seen = small_trainer(steps=4), []
    trace = []
    for event in trainer.run():
        seen.append(state())
        if event.training is not None:
            trace.append((event.training.energy, event.training.gradient_norm))
    weights = torch.nn.utils.parameters_to_vector(trainer.averaged_model().parameters())
    return [*trace, float(weights.detach().abs().sum())], seen


@pytest.mark.parametrize("name", STATES)
def test_training_in_any_state(name, trained):
    with STATES[name]():
        before = state()
        trace, seen = trace_of_training()
        assert all(inside == before for inside in seen)
    assert trace == trained
    assert trace[0][1] > 0.0


@pytest.mark.parametrize("name", ["inference_mode", "float64", "meta"])
def test_self_refining_dynamics_in_any_state(name):
    def run():
        atoms = untrained_water()
        dynamics(atoms, config=small_config(safe_width_mEh=1e3)).run(2)
        return atoms

    plain = run()
    with STATES[name]():
        other = run()
    np.testing.assert_array_equal(other.positions, plain.positions)
    assert other.calc.energy_bracket == plain.calc.energy_bracket


def test_calculators_in_threads(model_file, expected):
    def work(kind):
        with STATES[kind]():
            return SRDFTCalculator(model_file).get_forces(water())

    before = state()
    with default_dtype(torch.float64), ThreadPoolExecutor(4) as pool:
        for forces in pool.map(work, ["no_grad", "meta", "autocast", "inference_mode"] * 2):
            np.testing.assert_allclose(forces, expected.results["forces"], atol=1e-10)
        assert torch.get_default_dtype() == torch.float64
    assert state() == before


def test_another_threads_change_of_the_default_type_does_not_go_unnoticed():
    with default_dtype(torch.float64):
        with pytest.raises(RuntimeError, match=r"torch\.float16"), single_precision():
            torch.set_default_dtype(torch.float16)
        assert torch.get_default_dtype() == torch.float16


def test_a_generator_is_undisturbed_between_its_yields():
    @undisturbed
    def function():
        assert torch.is_grad_enabled()
        got = yield 1
        assert torch.is_grad_enabled()
        try:
            yield got
        except ValueError:
            yield "thrown"
        return 5

    with torch.no_grad():
        generator = function()
        assert next(generator) == 1
        assert not torch.is_grad_enabled()
        assert generator.send(7) == 7
        assert generator.throw(ValueError()) == "thrown"
        assert not torch.is_grad_enabled()
        with pytest.raises(StopIteration) as end:
            next(generator)
    assert end.value.value == 5


def test_the_plain_state_ends_with_an_error_too():
    before = state()

    def fail():
        with plain_state(), seeded(1), single_precision():
            torch.rand(3)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert state() == before
    with seeded(1):
        ours = torch.rand(3)
    assert torch.equal(ours, torch.rand(3, generator=torch.Generator().manual_seed(1)))


def run_script(script, *arguments, seconds=120, **variables):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.slow
def test_importing_in_an_odd_state(model_file, expected):
    script = """
        import random, sys, warnings
        import numpy as np
        import torch
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        np.seterr(all="raise")
        from ase.build import molecule
        atoms = molecule("H2O")
        atoms.positions[1] += [0.0, 0.02, 0.01]
        warnings.simplefilter("error")
        before = random.getstate(), torch.default_generator.get_state().numpy().tobytes()
        from ase_srdft import SRDFTCalculator
        atoms.calc = SRDFTCalculator(sys.argv[1])
        print(repr(atoms.get_potential_energy()), repr(float(abs(atoms.get_forces()).sum())))
        assert before == (random.getstate(), torch.default_generator.get_state().numpy().tobytes())
        assert torch.get_default_dtype() == torch.float64
    """
    found = [float(word) for word in run_script(script, str(model_file), OMP_NUM_THREADS="1")]
    forces = abs(expected.results["forces"]).sum()
    assert found == pytest.approx([expected.results["energy"], forces], rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"OMP_NUM_THREADS": "2"}, {}])
def test_a_forked_process_computes(variables):
    script = """
        import multiprocessing, warnings
        import torch
        from ase.build import molecule
        from ase_srdft import SRDFTCalculator
        from ase_srdft.parallel.thread_map import ThreadMap
        warnings.simplefilter("ignore")
        torch.set_num_threads(2)
        workers = ThreadMap(2)
        atoms = molecule("CH3CH2OH")
        atoms.calc = SRDFTCalculator("untrained", xc="PBE", basis="6-31g", grid_level=0)

        def energy(shift):
            moved = atoms.copy()
            moved.calc = atoms.calc
            moved.positions[0, 0] += shift
            assert workers.map(abs, [-1, -2, -3]) == [1, 2, 3]
            return moved.get_potential_energy(), abs(moved.get_forces()).sum()

        before = energy(0.0), energy(0.1)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map_async(energy, [0.0, 0.1]).get(timeout=90)
        print(*(abs(a - b) for pair in zip(before, found) for a, b in zip(*pair)))
    """
    differences = [float(word) for word in run_script(script, **variables)]
    assert len(differences) == 4
    assert max(differences) < 1e-6
