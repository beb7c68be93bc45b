"""The same numbers on a CUDA device: run with ``-m gpu`` where there is one."""

import pytest
import torch
from ase.build import molecule

from ase_srdft import SRDFTCalculator
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.training.trainer import Trainer
from tests.tools.small_models import small_model
from tests.tools.small_training import events_of, small_config, small_dataset

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("level", [{"xc": "PBE"}, {"xc": "B3LYP"}], ids=["PBE", "B3LYP"])
def test_energy_and_forces_agree_with_the_cpu(level):
    model = small_model(**level)
    atoms = molecule("H2O")
    positions = torch.tensor(atoms.positions / 0.529177)[None].repeat(2, 1, 1)
    positions[1, 1, 2] += 0.1
    numbers = tuple(atoms.numbers.tolist())
    here = single_point(model, molecule_of(model, numbers), positions)
    there = single_point(model.to("cuda"), molecule_of(model, numbers), positions.to("cuda"))
    assert here.forces is not None
    assert there.forces is not None
    assert here.forces.abs().max() > 1e-3
    assert there.energy.device.type == "cuda"
    torch.testing.assert_close(there.energy.cpu(), here.energy, rtol=0, atol=2e-8)
    torch.testing.assert_close(there.forces.cpu(), here.forces, rtol=0, atol=1e-7)
    torch.testing.assert_close(there.bracket.width.cpu(), here.bracket.width, rtol=0, atol=1e-7)


def test_training_and_sampling_run_there_and_agree_at_first():
    runs = {
        device: Trainer(small_config(steps=60, safe_width_mEh=1e3, device=device), small_dataset())
        for device in ("cpu", "cuda")
    }
    records = {device: events_of(trainer, "training") for device, trainer in runs.items()}
    first = {device: steps[0][1].energy for device, steps in records.items()}
    assert first["cuda"] == pytest.approx(first["cpu"], abs=1e-7)
    assert records["cuda"][-1][1].energy < first["cuda"] - 1e-3
    assert runs["cuda"].counters.nsamples > 0
    assert next(runs["cuda"].updater.model.parameters()).device.type == "cuda"


def test_sampler_processes_run_there_beside_the_trainer():
    device = f"cuda:{torch.cuda.device_count() - 1}"
    engine = {"name": "local", "sampler_devices": [device]}
    trainer = Trainer(
        small_config(steps=10**6, safe_width_mEh=1e3, device="cuda:0", engine=engine),
        small_dataset(),
    )
    for event in trainer.run():
        assert event.worker is None
        trainer.stop_requested = event.nsamples >= 16
    assert trainer.counters.nsamples >= 16
    (geometry,) = trainer.cache.batches([trainer.buffer.samples[-1]])
    assert str(geometry.positions.device) == "cuda:0"


CERTIFIED = {"PBE": ("PBE", "def2-svp"), "B3LYP": ("B3LYP", "6-31g*")}


@pytest.mark.parametrize("level", CERTIFIED)
@pytest.mark.parametrize("max_error", [1e-3, None], ids=["corrected", "own"])
def test_the_default_model_answers_as_on_the_cpu(level, max_error):
    xc, basis = CERTIFIED[level]
    answers = {}
    for device in ("cpu", "cuda"):
        atoms = molecule("CH3CONH2")
        atoms.calc = SRDFTCalculator(xc=xc, basis=basis, device=device, max_error=max_error)
        answers[device] = atoms.get_potential_energy(), atoms.get_forces(), atoms.calc.certificate
    (here, force_here, ours), (there, force_there, theirs) = answers["cpu"], answers["cuda"]
    assert theirs.path == ours.path
    assert there == pytest.approx(here, abs=1e-5)
    assert abs(force_there - force_here).max() < 1e-4
    assert theirs.error == pytest.approx(ours.error, abs=1e-5)


def test_a_broken_bond_is_searched_there_as_on_the_cpu():
    energies = {}
    for device in ("cpu", "cuda"):
        atoms = molecule("H2O")
        atoms.positions[1] *= 2.2
        atoms.calc = SRDFTCalculator(xc="PBE", basis="6-31g", device=device)
        energies[device] = atoms.get_potential_energy()
    assert energies["cuda"] == pytest.approx(energies["cpu"], abs=1e-4)


def test_a_calculator_learns_there_as_it_runs():
    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator(xc="PBE", basis="6-31g", device="cuda", learn="in_turn")
    for seed in range(6):
        atoms.rattle(0.02, seed=seed)
        atoms.get_forces()
    assert atoms.calc.certificate.error < 1e-3
    atoms.calc.close()
