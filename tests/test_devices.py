"""Everything that computes, on a second device that refuses to mix with the first."""

import copy

import pytest
import torch
from ase.build import molecule

from ase_srdft import SRDFTCalculator
from ase_srdft.common import devices
from ase_srdft.dft.grid import molecular_grid
from ase_srdft.dft.xc import quadrature
from ase_srdft.models.single_point import molecule_of, single_point
from ase_srdft.parallel.mailbox import Mailbox
from ase_srdft.runs.run_directory import RunDirectory
from ase_srdft.sampling.workers.sampler_message import from_message, to_message
from ase_srdft.training.trainer import Trainer
from tests.tools.pretend_device import PretendTensor, TwoDevices, pretend_device
from tests.tools.small_models import (
    ORBITAL_NETWORK,
    orbital_model,
    potential_model,
    small_model,
    water,
)
from tests.tools.small_training import events_of, sampling_trainer, small_config, small_dataset

LEVELS = [
    {"xc": "LDA"},
    {"xc": "PBE"},
    {"xc": "PBE", "density_fitting": False},
    {"xc": "PBE0"},
    {"xc": "B3LYP", "density_fitting": False},
]

# it is copied here, since the tensors only say that they are on the device ``meta``
pytestmark = pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")


@pytest.fixture(autouse=True)
def device(monkeypatch):
    for module in (molecular_grid, quadrature):
        monkeypatch.setitem(module._BLOCK_ELEMENTS, "meta", module._BLOCK_ELEMENTS["cpu"])
    monkeypatch.setattr(devices, "_SUPPORTED", ("cpu", "meta"))
    with pretend_device() as name:
        yield name


def test_devices_do_not_mix(device):
    there, here = torch.ones(3).to(device), torch.ones(3)
    assert there.device.type == device
    assert (2.0 * there + torch.tensor(1.0)).cpu().tolist() == [3.0, 3.0, 3.0]
    for mixed in (lambda: there + here, lambda: here @ there, lambda: torch.cat([here, there])):
        with pytest.raises(TwoDevices):
            mixed()


def test_derivatives_are_there(device):
    x = torch.tensor([1.0, 2.0], dtype=torch.float64).to(device).requires_grad_()
    (gradient,) = torch.autograd.grad((x**3).sum(), x)
    assert isinstance(gradient, PretendTensor)
    assert gradient.cpu().tolist() == [3.0, 12.0]


def positions_of(*shifts):
    return torch.stack([torch.tensor(water(shift).positions / 0.529177) for shift in shifts])


def single_points(model, device):
    """The same two geometries here and there."""
    molecule, positions = molecule_of(model, (8, 1, 1)), positions_of(0.0, 0.1)
    here = single_point(model, molecule, positions)
    moved = copy.deepcopy(model).to(device)
    there = single_point(moved, molecule_of(moved, (8, 1, 1)), positions.to(device))
    return here, there


def assert_same(here, there):
    assert there.energy.device.type == there.forces.device.type == "meta"
    assert here.forces.abs().max() > 1e-3
    for name in ("energy", "forces", "fock"):
        ours, theirs = getattr(here, name), getattr(there, name).cpu()
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-10)
    width = there.bracket.width.cpu()
    assert width.min() > 1e-6
    torch.testing.assert_close(width, here.bracket.width, rtol=0, atol=1e-9)


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_energies_and_forces_of_the_fock_family(level, device):
    assert_same(*single_points(small_model(**level).double(), device))


@pytest.mark.parametrize("family", ["coefficient", "qpt"])
def test_energies_and_forces_of_the_families_on_orbital_tokens(family, device):
    assert_same(*single_points(orbital_model(family), device))


@pytest.mark.parametrize("level", LEVELS, ids=str)
def test_energies_and_forces_of_the_potential_family(level, device):
    assert_same(*single_points(potential_model(level=level), device))


FAMILIES = {
    "fock": {},
    "potential": {"features": 8, "layers": 1},
    "coefficient": ORBITAL_NETWORK,
    "qpt": ORBITAL_NETWORK,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_training_steps(family, device):
    settings = {"model": family, "steps": 3, "self_refine": True, "safe_width_mEh": 1e-9}
    if family != "fock":
        settings["model_config"] = FAMILIES[family]
    here, there = (
        Trainer(small_config(**settings, device=name), small_dataset()) for name in ("cpu", device)
    )
    ours, theirs = (events_of(trainer, "training") for trainer in (here, there))
    assert len(ours) == len(theirs) == 3
    assert ours[2][1].energy != ours[0][1].energy
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        assert other.energy == pytest.approx(mine.energy, abs=1e-6)
        assert other.bracket_width == pytest.approx(mine.bracket_width, rel=1e-4)
    assert {p.device.type for p in there.updater.model.parameters()} == {device}


@pytest.mark.slow
def test_sampling_and_training_with_checkpoints(device, tmp_path):
    trainers = {}
    for name in ("cpu", device):
        trainer = trainers[name] = sampling_trainer(device=name, steps=9)
        directory = RunDirectory(tmp_path / name, trainer)
        for event in trainer.run():
            directory.record(event)
        directory.finish("steps done")
        directory.close()
        assert trainer.counters.nsamples > 2
    samples = [t.cache.positions_of(t.buffer.samples[-1]) for t in trainers.values()]
    torch.testing.assert_close(*map(torch.as_tensor, samples), rtol=0, atol=1e-5)
    for name in ("cpu", device):  # a checkpoint of either device goes on on the other
        other = Trainer(small_config(device=name, steps=9), small_dataset())
        assert RunDirectory(tmp_path / (device if name == "cpu" else "cpu"), other).resumed
        assert other.updater.step == 9


def test_samples_go_from_one_device_to_another(device, tmp_path):
    trainer = sampling_trainer(device=device)
    producer = trainer.parts.sampler_from(trainer.sampling.checkpoints[0])
    message = producer.advance(0)
    assert len(message.batch.samples) > 0
    geometry = message.batch.samples[0].geometry
    assert isinstance(geometry.integrals.overlap, PretendTensor)
    mailbox = Mailbox(tmp_path)
    mailbox.put("sampler", 0, *to_message(message))
    tensors, record = mailbox.take(*mailbox.waiting("sampler"))
    for where in ("cpu", device):
        back = from_message(tensors, record, trainer.molecules, torch.device(where))
        overlap = back.batch.samples[0].geometry.integrals.overlap
        assert overlap.device.type == where
        torch.testing.assert_close(overlap.cpu(), geometry.integrals.overlap.cpu(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("xc", "max_error", "stretch"),
    [("PBE", 1e-3, 1.0), ("B3LYP", 1e-3, 1.0), ("B3LYP", None, 1.0), ("PBE", 1e-3, 2.2)],
    ids=["corrected", "corrected hybrid", "own hybrid", "searched"],
)
def test_calculators_answer_as_on_the_cpu(xc, max_error, stretch, device):
    answers = []
    for name in ("cpu", device):
        atoms = molecule("H2O")
        atoms.positions[1] *= stretch
        atoms.calc = SRDFTCalculator(xc=xc, basis="6-31g", device=name, max_error=max_error)
        answers.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.calc.certificate))
    (here, force_here, ours), (there, force_there, theirs) = answers
    assert theirs.path == ours.path
    assert there == pytest.approx(here, abs=1e-6)
    assert abs(force_there - force_here).max() < 1e-4
