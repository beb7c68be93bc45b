"""ase-srdft-train: what it leaves behind, how it stops and goes on, one line where it fails."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.build import molecule

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.cli import progress, stop_request
from ase_srdft.cli.train import main
from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.common.errors import SamplingFailed
from ase_srdft.common.settings import from_plain
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.models.model_file import build_model, load_model, save_model
from ase_srdft.reference.label_file import write_labels
from ase_srdft.runs.run_directory import RunDirectory
from ase_srdft.training.config import TrainingConfig
from ase_srdft.training.trainer import Trainer
from tests.tools.small_labels import small_labels
from tests.tools.small_models import ORBITAL_NETWORK
from tests.tools.small_training import HCN, HNC, PLAIN, peroxide, plain_with, rattled

FILES = ["checkpoint.h5", "config.yaml", "metrics.jsonl", "model.srdft", "report.html"]


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """The command sets both for its process, which here is everyone's."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: a structure, frames, and the settings of a small run."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("water.xyz", molecule("H2O"))
    ase.io.write("frames.traj", rattled(4))
    positions = np.array([atoms.positions for atoms in rattled(4)])
    np.savez("frames.npz", nuclear_charges=molecule("H2O").numbers, coords=positions)
    write_settings()
    return tmp_path


def write_settings(**changes):
    with open("small.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(plain_with({"steps": 3, "threads": 1} | changes), file)


def write_settings_without(*names):
    settings = plain_with({"steps": 1, "threads": 1})
    with open("small.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump({n: value for n, value in settings.items() if n not in names}, file)


def train(*more, structures=("water.xyz",)):
    """Run the command as a shell would; returns the exit code."""
    try:
        return main([*structures, "--config", "small.yaml", "-o", "run", *more])
    except SystemExit as leaving:
        return leaving.code


def metrics(kind):
    with open("run/metrics.jsonl", encoding="utf-8") as file:
        return [r for r in map(json.loads, file) if r["kind"] == kind]


def weights(path="run/model.srdft"):
    return torch.nn.utils.parameters_to_vector(load_model(Path(path)).model.parameters()).detach()


# What there is in the end


def test_from_one_structure_to_a_calculator(folder, capsys):
    assert train() == 0
    assert sorted(os.listdir("run")) == FILES
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == "H2O at LDA/sto-3g (def2-universal-jfit, grid level 0), into run"
    assert any(line.startswith(" 33 %  step 1  E -7") for line in lines)
    assert lines[-2].startswith("steps done: 3 steps, 0 samples, certified error ")
    assert lines[-2].endswith(" microhartree (mean bracket width, held out)")
    assert lines[-1] == "model: run/model.srdft   report: run/report.html"
    atoms = molecule("H2O")
    atoms.calc = SRDFTCalculator("run/model.srdft")
    assert -2100 < atoms.get_potential_energy() < -2000
    assert np.abs(atoms.get_forces()).max() > 1e-3


def test_samples_are_written(folder, monkeypatch):
    sample_from_the_start(monkeypatch)
    assert train("--walkers", "3", "--temperature", "300", "--steps", "9") == 0
    assert sorted(os.listdir("run")) == [*FILES, "samples.traj"]
    frames = ase.io.read("run/samples.traj", ":")
    # three walkers, two steps a round, rounds before steps 1 and 9
    assert len(frames) == sum(len(r["energies_hartree"]) for r in metrics("sampling")) == 12
    assert frames[0].get_potential_energy() < -2000
    assert np.abs(frames[0].get_forces()).max() > 0.01


def sample_from_the_start(monkeypatch):
    original = Trainer.begin

    def begin(trainer):
        original(trainer)
        if not trainer.counters.sampling:
            trainer.sampling.place_walkers()

    monkeypatch.setattr(Trainer, "begin", begin)


@pytest.mark.parametrize("data", ["frames.traj", "frames.npz"])
def test_from_frames_alone(data, folder):
    assert train("--no-self-refine", "--data", data, structures=()) == 0
    (start,) = metrics("start")
    assert (start["nframes"], start["nvalidation"]) == (2, 2)
    assert "samples.traj" not in os.listdir("run")


def test_from_labels(folder, capsys):
    write_labels(Path("labels.h5"), [small_labels(6)])
    words = ["--loss", "hamiltonian", "--labels", "labels.h5"]
    assert train(*words, structures=()) == 0
    printed = capsys.readouterr().out
    assert "Hamiltonian error" in printed
    assert "certified error" in printed
    assert metrics("start")[0]["nframes"] == 3
    assert metrics("validation")[-1]["hamiltonian_mae_uEh"] > 0.0
    settings = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    assert (settings["loss"], settings["self_refine"]) == ("hamiltonian", False)
    assert train(*words, "--steps", "5", structures=()) == 0
    assert "going on in run" in capsys.readouterr().out


def test_the_level_is_that_of_the_labels(folder):
    write_labels(Path("labels.h5"), [small_labels(4)])
    write_settings_without("level")
    assert train("--loss", "hamiltonian", "--labels", "labels.h5", structures=()) == 0
    assert load_model(Path("run/model.srdft")).model.level == small_labels(4).origin.level


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ("", {"xc": "BLYP", "basis": "sto-3g", "density_fitting": False}),
        ("--basis 6-31g", {"xc": "BLYP", "basis": "6-31g", "density_fitting": False}),
        ("--level LDA/sto-3g", {"xc": "LDA", "basis": "sto-3g"}),
        ("--density-fitting on", {"xc": "BLYP", "basis": "sto-3g"}),
    ],
)
def test_the_level_is_that_of_the_model_to_start_from(words, level, folder):
    own = LevelOfTheory(xc="BLYP", basis="sto-3g", density_fitting=False, grid_level=3)
    save_model("own.srdft", build_model("potential", own, (1, 8), PLAIN["model_config"]), {})
    write_settings_without("level", "model_config")
    assert train("--start-from", "own.srdft", *words.split()) == 0
    settings = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    assert from_plain(TrainingConfig, settings).all_levels == (LevelOfTheory(**level),)


def test_frames_may_choose_among_labels(folder):
    write_labels(Path("labels.h5"), [small_labels(6)])
    ase.io.write("some.traj", rattled(4, stdev=0.05))
    assert train("--loss", "hamiltonian", "--labels", "labels.h5", "--data", "some.traj") == 0
    assert metrics("start")[0]["nframes"] == 2


def test_flags_win_over_the_file_and_all_is_written_down(folder):
    flags = {
        "--xc": ("level.xc", "PBE"),
        "--model": ("model", "fock"),
        "--charge": ("level.charge", 0),
        "--grid-level": ("level.grid_level", 1),
        "--temperature": ("sampling.temperature_K", 320.0),
        "--dynamics": ("sampling.dynamics", "langevin"),
        "--walkers": ("sampling.walkers", 3),
        "--data-fraction": ("data_fraction", 0.5),
        "--frames-share": ("frames_share", 0.25),
        "--steps": ("steps", 2),
        "--minutes": ("minutes", 9.0),
        "--target-error": ("target_error_uEh", 1.5),
        "--batch-size": ("optimiser.batch_size", 2),
        "--learning-rate": ("optimiser.learning_rate", 0.005),
        "--validation-frames": ("validation_frames", 2),
        "--memory-gb": ("memory_gb", 0.5),
        "--device": ("device", "cpu"),
        "--threads": ("threads", 2),
        "--seed": ("seed", 7),
        "--density-fitting": ("level.density_fitting", "def2-universal-jkfit"),
        "--guess": ("model_config.guess", "minao"),
    }
    words = [word for flag, (_, value) in flags.items() for word in (flag, str(value))]
    assert train("--allow-reactions", *words) == 0
    with open("run/config.yaml", encoding="utf-8") as file:
        plain = yaml.safe_load(file)
    for path, value in flags.values():
        found = plain
        for name in path.split("."):
            found = found[name]
        assert found == value, path
    assert plain["sampling"]["allow_reactions"] is True
    assert plain["model_config"]["features"] == PLAIN["model_config"]["features"]
    assert plain["optimiser"]["warmup_steps"] == PLAIN["optimiser"]["warmup_steps"]
    from_plain(TrainingConfig, plain)


def test_another_family_and_its_learning_rate(folder):
    plain = plain_with({"steps": 2, "threads": 1}) | {"model_config": ORBITAL_NETWORK}
    with open("small.yaml", "w", encoding="utf-8") as file:
        yaml.safe_dump(plain, file)
    assert train("--model", "coefficient") == 0
    assert load_model(Path("run/model.srdft")).model.family == "coefficient"
    with open("run/config.yaml", encoding="utf-8") as file:
        assert yaml.safe_load(file)["optimiser"]["learning_rate"] == 3e-4


def test_a_guess_for_a_family_without_one(folder, capsys):
    assert train("--model", "coefficient", "--guess", "sap") == 2
    assert "--guess sap: models of the family 'coefficient'" in capsys.readouterr().err


def test_exact_integrals(folder):
    assert train("--density-fitting", "off", "--steps", "1") == 0
    assert load_model(Path("run/model.srdft")).model.level.density_fitting is False


def test_settings_that_were_written_can_be_used_again(folder):
    assert train() == 0
    os.rename("run", "first")
    assert main(["water.xyz", "--config", "first/config.yaml", "-o", "run"]) == 0
    assert torch.equal(weights("first/model.srdft"), weights())


@pytest.mark.parametrize(
    ("words", "left"), [((), 1), (("--engine", "sync"), 0), (("--samplers", "999"), 999)]
)
def test_threads_are_the_cores_that_samplers_leave(words, left, folder, monkeypatch):
    seen = []

    def refuse(config, dataset, **others):
        seen.append(config)
        raise SystemExit(17)

    monkeypatch.setattr("ase_srdft.training.trainer.Trainer", refuse)
    with pytest.raises(SystemExit):
        main(["water.xyz", "-o", "run", "--walkers", "999", *words])
    assert seen[0].threads == max(1, len(os.sched_getaffinity(0)) - left)
    assert seen[0].sampling.walkers == 999
    assert seen[0].optimiser == TrainingConfig().optimiser
    assert not os.path.exists("run")


# Stopping and going on


def test_a_finished_run_has_nothing_left_to_do(folder, capsys):
    assert train() == 0
    before, file = weights(), os.stat("run/model.srdft")
    capsys.readouterr()
    assert train() == 0
    assert os.stat("run/model.srdft").st_ino == file.st_ino  # not even written anew
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(", going on in run")
    assert lines[-2].startswith("nothing left to do, steps done: 3 steps")
    assert torch.equal(weights(), before)
    assert train("--steps", "5") == 0
    assert "nothing left" not in capsys.readouterr().out
    assert [r["step"] for r in metrics("end")] == [5]


def test_a_run_that_reached_its_target_has_nothing_left_to_do(folder, capsys):
    write_settings(validate_every=1)
    words = ("--no-self-refine", "--data", "frames.traj", "--target-error", "1e9")
    for beginning in ("target reached: 1 steps", "nothing left to do, target reached: 1 steps"):
        assert train(*words) == 0
        assert capsys.readouterr().out.splitlines()[-2].startswith(beginning)


@pytest.mark.parametrize("again", [("--steps", "9"), ()])
def test_a_target_that_is_met_already_ends_the_run_at_once(again, folder, capsys):
    assert train() == 0
    before = weights()
    capsys.readouterr()
    for _ in range(2):
        assert train(*again, "--target-error", "1e9") == 0
        printed = capsys.readouterr().out
        assert "nothing left to do, target reached: 3 steps" in printed
        assert "not reached" not in printed
        assert torch.equal(weights(), before)
        (end,) = metrics("end")
        assert (end["reason"], end["target_reached"]) == ("target reached", True)


def test_a_target_that_was_missed_is_told(folder, capsys):
    assert train("--target-error", "1e-6") == 0
    printed = capsys.readouterr().out
    assert "the target of 1e-06 microhartree was not reached" in printed
    assert "steps done: 3 steps" in printed
    (end,) = metrics("end")
    assert (end["target_error_uEh"], end["target_reached"]) == (1e-6, False)
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "was not reached" in page
    # another target on the next run is the one that counts
    assert train("--steps", "5", "--target-error", "1e-3") == 0
    assert "the target of 0.001 microhartree was not reached" in capsys.readouterr().out
    assert metrics("end")[0]["target_error_uEh"] == 1e-3


def test_the_worst_molecules_are_named(folder, capsys):
    words = ("--model", "potential", "--level", "LDA/sto-3g", "PBE/sto-3g")
    words += ("--target-worst-error", "1e-6")
    write_settings(model_config={"features": 8, "layers": 1})
    assert train(*words, structures=("water.xyz", "g2:NH3")) == 0
    lines = capsys.readouterr().out.splitlines()
    (validation,) = metrics("validation")
    worst, *others = validation["worst"]
    assert worst["bracket_width_uEh"] > 1.1 * others[-1]["bracket_width_uEh"] > 0.0
    assert len(others) == 3
    (at_each,) = (line for line in lines if line.startswith(" ") and "widest" in line)
    (in_the_end,) = (line for line in lines if line.startswith("widest"))
    for line in (at_each, in_the_end):
        assert line.index(worst["molecule"]) < line.index(others[0]["molecule"])
    assert f"{worst['molecule']} {worst['bracket_width_uEh']:.1f}" in in_the_end
    assert any("1e-06 microhartree for the worst molecule was not" in line for line in lines)
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "Where brackets are widest" in page
    assert page.count("<th>LDA/sto-3g</th>") == 1
    assert [level["nvalidation"] for level in validation["levels"]] == [2, 2]


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (("--xc", "B3LYP", "--level", "PBE/sto-3g"), "xc B3LYP beside the levels of theory PBE/st"),
        (("--basis", "6-31g", "--level", "LDA/sto-3g", "PBE/sto-3g"), "basis 6-31g beside"),
    ],
)
def test_one_level_or_several(words, refused, folder, capsys):
    assert train("--model", "potential", *words) == 2
    assert refused in capsys.readouterr().err
    assert not Path("run").exists()


def test_several_levels_of_a_file(folder, capsys):
    small = {"model": "potential", "model_config": {"features": 8, "layers": 1}}
    write_settings(**small, level={"xc": "PBE0", "basis": "sto-3g"}, levels=["PBE/sto-3g"])
    assert train() == 2
    assert "xc PBE0 beside the levels of theory PBE/sto-3g" in capsys.readouterr().err
    assert train("--level", "LDA/sto-3g", "PBE/sto-3g", "--validation-frames", "1") == 0
    settings = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    assert settings["level"]["xc"] == "LDA"  # the first of them
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("of 1 of the 2 molecules, each at a level of") for line in lines)
    # what such a run has written is what it goes on with
    write_settings(**settings)
    assert train("--steps", str(settings["steps"] + 1)) == 0
    assert train("--level", "PBE/sto-3g") == 2
    assert "run holds a run with other settings (level" in capsys.readouterr().err


def test_a_target_below_which_only_rattled_copies_are(folder, capsys):
    assert train("--target-error", "1e9") == 0
    printed = capsys.readouterr().out
    assert "the target of 1e+09 microhartree was not reached: it counts once dynamics" in printed


def test_the_end_says_how_wide_brackets_are_at_most_and_where(folder, capsys, monkeypatch):
    assert train() == 0
    lines = capsys.readouterr().out.splitlines()
    (validation,) = metrics("validation")
    mean, largest = (validation[f"bracket_width{which}_uEh"] for which in ("", "_max"))
    assert largest > 1.01 * mean
    assert f"certified error {mean:.1f} microhartree, at most {largest:.1f} micro" in lines[-2]
    assert "held out: 4 rattled copies of the given structures" in lines[-3]
    assert train("--no-self-refine", "--data", "frames.traj", "-o", "other", structures=()) == 0
    assert capsys.readouterr().out.splitlines()[-3] == "held out: 2 given frames"


def test_isomers_with_the_same_list_of_atoms(folder, capsys, monkeypatch):
    ase.io.write("both.xyz", [HCN, HNC])
    sample_from_the_start(monkeypatch)
    assert train("--steps", "9", structures=("both.xyz",)) == 0
    printed = capsys.readouterr()
    assert "CHN (isomer 1), CHN (isomer 2) at LDA" in printed.out
    frames = ase.io.read("run/samples.traj", ":")
    kinds = Counter(bond_matrix(a.numbers, a.positions).tobytes() for a in frames)
    isomers = [bond_matrix(a.numbers, a.positions).tobytes() for a in (HCN, HNC)]
    assert isomers[0] != isomers[1]
    assert kinds == dict.fromkeys(isomers, 4)
    widths = metrics("validation")[-1]["molecule_widths_uEh"]
    assert min(widths) > 0.0
    # the same again goes on; without one of them it is another run
    assert train("--steps", "10", structures=("both.xyz",)) == 0
    ase.io.write("one.xyz", HCN)
    assert train("--steps", "11", structures=("one.xyz",)) == 2
    assert "other structures or frames" in capsys.readouterr().err


def test_a_structure_that_gives_no_samples_is_told(folder, capsys, monkeypatch):
    stretched = molecule("H2O")
    stretched.set_distance(0, 1, 1.27, fix=0)  # no bond any more; forces bring it back at once
    ase.io.write("two.xyz", [molecule("H2O"), stretched])
    sample_from_the_start(monkeypatch)
    assert train("--steps", "2", structures=("two.xyz",)) == 0
    assert "no samples of H2O (isomer 2): its bonds changed" in capsys.readouterr().out
    assert metrics("sampling")[0]["resets"]["bonds changed"] > 0


@pytest.mark.skipif(find_spec("rdkit") is None, reason="RDKit is an extra")
def test_smiles_are_trained_on_in_several_conformers(folder, capsys):
    few = ("--steps", "1", "--pretraining-frames", "1", "--validation-frames", "1")
    assert train(*few, structures=("smiles:CCO",)) == 0
    assert metrics("start")[0]["nstructures"] == [2]
    one = ("--conformers", "1")
    assert train(*few, *one, structures=("smiles:CCO",)) == 2
    assert "other structures" in capsys.readouterr().err
    assert train(*few, *one, "-o", "other", structures=("smiles:CCO",)) == 0


def test_more_structures_than_walkers_is_told(folder, capsys):
    ase.io.write("three.xyz", [peroxide(90.0), peroxide(180.0), peroxide(-90.0)])
    assert train("--steps", "1", structures=("three.xyz", "three.xyz")) == 0
    printed = capsys.readouterr().err
    assert printed == "ase-srdft-train: 3 structures are given: 3 walkers instead of 2\n"


def test_time_is_up(folder, capsys):
    assert train("--minutes", "1e-6") == 0
    printed = capsys.readouterr().out
    assert "time is up: 0 steps, 0 samples, certified error not validated yet" in printed
    assert sorted(os.listdir("run")) == FILES


@pytest.fixture
def signals(monkeypatch):
    """Signals that arrive at the first events of a run, one by one."""
    pending = []
    original = RunDirectory.record

    def record(self, event):
        original(self, event)
        if pending:
            os.kill(os.getpid(), pending.pop(0))

    monkeypatch.setattr(RunDirectory, "record", record)
    return pending


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        signal.SIGHUP,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGUSR1)),
    ],
)
def test_a_signal_stops_the_run_and_it_can_go_on(number, folder, signals, capsys):
    assert train() == 0
    os.rename("run", "whole")
    before = signal.getsignal(number)
    signals.append(number)
    assert train() == 75
    assert signal.getsignal(number) == before
    printed = capsys.readouterr()
    assert printed.err == "stopping after this step; Ctrl-C once more to stop at once\n"
    assert "interrupted: 1 steps" in printed.out
    assert metrics("end")[0]["reason"] == "interrupted"
    assert sorted(os.listdir("run")) == FILES
    assert train() == 0
    assert "nothing left" not in capsys.readouterr().out
    assert torch.equal(weights(), weights("whole/model.srdft"))


def test_a_second_signal_stops_at_once(folder, monkeypatch, capsys):
    original = RunDirectory.record

    def record(self, event):
        original(self, event)
        for _ in range(3):  # the second comes with the first, as to a group of processes
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)
            seconds.append(100.0 * (len(seconds) > 1))

    seconds = [0.0]
    monkeypatch.setattr(stop_request, "monotonic", lambda: 1.0 + seconds[-1])
    monkeypatch.setattr(RunDirectory, "record", record)
    assert train() == 130
    assert len(seconds) == 3
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "ase-srdft-train: error: interrupted"
    monkeypatch.undo()


@pytest.mark.parametrize(
    "error",
    [SamplingFailed("no sample in 25 rounds: lower it"), FloatingPointError("step 3: lower it")],
)
def test_a_run_that_fails_says_so_in_one_line(error, folder, monkeypatch, capsys):
    def fail(self, progress):
        raise error

    monkeypatch.setattr(Trainer, "train", fail)
    assert train() == 1
    assert capsys.readouterr().err == f"ase-srdft-train: error: {error}\n"


def test_weights_that_diverge_are_one_line(folder, capsys):
    assert train("--learning-rate", "1e6", "--steps", "30") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not finite: lower the learning rate (" in line


# Bad input


def bad_inputs(folder):
    """Files that cannot be used, written where the test runs."""
    water = molecule("H2O")
    open("empty.xyz", "w").close()
    with open("garbage.xyz", "w", encoding="utf-8") as file:
        file.write("not a structure\n" * 3)
    periodic = water.copy()
    periodic.set_cell([9, 9, 9])
    periodic.pbc = True
    ase.io.write("periodic.extxyz", periodic)
    ase.io.write("odd.xyz", water[:2])
    ase.io.write("radical.xyz", molecule("OH"))
    ase.io.write("xenon.xyz", Atoms("Xe"))
    close = water.copy()
    close.positions[2] = close.positions[1] + 0.05
    ase.io.write("close.xyz", close)
    broken = water.copy()
    broken.positions[1, 1] = np.nan
    ase.io.write("nan.xyz", broken)
    ion = water.copy()
    ion.set_initial_charges([-2.0, 0.0, 0.0])
    ase.io.write("ion.traj", ion)
    ase.io.write("triplet.traj", molecule("O2"))
    ion = water.copy()
    ion.info["charge"] = -2
    ase.io.write("stated-ion.xyz", ion)
    ase.io.write("stated-ions.xyz", [water, ion])
    with open("blank.xyz", "w", encoding="utf-8") as file:
        file.write("1\n\nHe 0 0 0\n\n1\n\nHe 0 0 1\n")
    with open("short.xyz", "w", encoding="utf-8") as file:
        file.write("2\n\nO 0 0 0\nH 0 0 1\nH 0 1 0\n")
    units = {"z": water.numbers, "R": np.array([water.positions] * 3)}
    np.savez("furlongs.npz", r_unit="furlong", **units)
    np.savez("ions.npz", charge=-2, **units)
    os.mkfifo("fifo.xyz")
    ion.info = {"charge": 0, "spin": 3}
    ase.io.write("stated-triplet.xyz", ion)
    ase.io.write("one.xyz", water)
    positions = np.array([water.positions])
    objects = np.array([positions, None], dtype=object)
    np.savez("pickled.npz", nuclear_charges=water.numbers, coords=objects, allow_pickle=True)
    for name, text in {
        "list.yaml": "- 1\n- 2\n",
        "broken.yaml": "steps: [1\n",
        "date.yaml": "steps: 2020-13-45\n",
        "unknown.yaml": "stepz: 3\n",
        "inner.yaml": "sampling: {walker: 3}\n",
        "flat.yaml": "level: 5\n",
        "empty-inner.yaml": "sampling:\n",
        "type.yaml": "steps: many\n",
        "features.yaml": "model_config: {features: 2.5}\n",
        "nan.yaml": "sampling: {temperature_K: .nan}\n",
    }.items():
        with open(name, "w", encoding="utf-8") as file:
            file.write(text)
    with open("latin.yaml", "wb") as file:
        file.write(b"steps: \xff\xfe\n")
    with open("file", "w", encoding="utf-8") as file:
        file.write("mine")
    write_labels(Path("labels.h5"), [small_labels(2)])
    with open("sampled.yaml", "w", encoding="utf-8") as file:
        file.write("self_refine: true\n")


LABELS = "--loss hamiltonian --labels labels.h5 --xc LDA --basis sto-3g --grid-level 0"
BAD = [
    ("water.xyz --loss nonsense", "loss is 'nonsense': use energy or hamiltonian"),
    ("water.xyz --labels labels.h5", "labels for the loss 'energy', which needs none"),
    ("water.xyz --data frames.traj --loss hamiltonian", "learns from --labels FILE: make it with"),
    ("--loss hamiltonian --labels labels.h5 --xc PBE", "the labels are of LDA/sto-3g"),
    ("--loss hamiltonian --labels missing.h5", "there is no file missing.h5: make labels with"),
    ("--loss hamiltonian --labels frames.traj", "frames.traj is damaged or no file of labels"),
    (f"{LABELS} --config sampled.yaml", "self_refine is True: use False with the loss"),
    (f"{LABELS} --data frames.traj", "a geometry of H2O has no label: train on the frames"),
    ("missing.xyz", "there is no file missing.xyz"),
    ("empty.xyz", "ASE cannot read empty.xyz"),
    ("garbage.xyz", "ASE cannot read garbage.xyz"),
    ("periodic.extxyz", "is periodic"),
    ("odd.xyz", "with charge 0 has 9 electrons, an open shell"),
    ("water.xyz --charge 1", "with charge 1 has 9 electrons, an open shell"),
    ("water.xyz --charge 12", "charge 12 leaves -2 electrons"),
    ("xenon.xyz", "element with atomic number 54: H to Kr are supported"),
    ("xenon.xyz --model fock --basis 6-31g", "no basis '6-31g' for Xe"),
    ("water.xyz --basis cc-pvqz", "functions with l = 4"),
    ("close.xyz", "0.087 Angstrom apart"),
    ("nan.xyz", "every coordinate must be a finite number"),
    ("ion.traj --model fock", "ion.traj: charge=0, but the atoms' initial charges sum to -2"),
    ("radical.xyz", "radical.xyz: the atoms' initial magnetic moments sum to 1"),
    ("triplet.traj", "triplet.traj: the atoms' initial magnetic moments sum to 2"),
    ("blank.xyz", "line 4 of blank.xyz is blank, but line 5 is not"),
    ("water.xyz --data blank.xyz", "line 4 of blank.xyz is blank, but line 5 is not"),
    ("short.xyz", "short.xyz: line 5 ('H 0 1 0') is where a frame begins"),
    ("fifo.xyz", "fifo.xyz is no file but a pipe"),
    ("water.xyz@0", "there is no file water.xyz@0"),
    ("water.xyz --data furlongs.npz", "furlongs.npz: r_unit is array('furlong'"),
    (
        "water.xyz --model fock --data ions.npz",
        "frame 0 of ions.npz: charge=0, but info['charge'] is -2",
    ),
    (
        "stated-ion.xyz --model fock",
        "frame 0 of stated-ion.xyz: charge=0, but info['charge'] is -2",
    ),
    (
        "water.xyz --model fock --data stated-ions.xyz",
        "frame 1 of stated-ions.xyz: charge=0, but info['char",
    ),
    ("water.xyz --charge -1 --data stated-ions.xyz", "charge=-1, but info['charge'] is -2"),
    ("stated-triplet.xyz", "frame 0 of stated-triplet.xyz: info['spin'] is 3, but open shells"),
    ("water.xyz --xc M06-2X", "unknown xc 'M06-2X': use one of LDA"),
    ("water.xyz --basis nonsense", "no basis 'nonsense' for O"),
    ("water.xyz --density-fitting nonsense", "no basis 'nonsense' for H"),
    ("water.xyz --guess huckel", "guess 'huckel': the family 'potential' starts from"),
    ("water.xyz --data pickled.npz", "is a pickled Python object, which is not read for safety"),
    ("water.xyz --data missing.traj", "there is no file missing.traj"),
    ("water.xyz --data one.xyz", "1 frame in --data: give at least 2"),
    ("water.xyz --data periodic.extxyz", "is periodic"),
    ("water.xyz --no-self-refine", "leaves nothing to train on"),
    ("", "nothing to train on: give a structure file"),
    ("water.xyz --config missing.yaml", "cannot read missing.yaml: No such file or directory"),
    ("water.xyz --config .", "cannot read .: Is a directory"),
    ("water.xyz --config broken.yaml", "broken.yaml is no YAML (while parsing"),
    ("water.xyz --config latin.yaml", "latin.yaml is no YAML"),
    ("water.xyz --config date.yaml", "date.yaml is no YAML"),
    ("water.xyz --config list.yaml", "list.yaml holds list: use name: value lines"),
    ("water.xyz --config unknown.yaml", "unknown setting 'stepz'"),
    ("water.xyz --config inner.yaml", "unknown setting 'sampling.walker'"),
    ("water.xyz --config flat.yaml --xc PBE", "level is 5: use name: value pairs"),
    ("water.xyz --config empty-inner.yaml --walkers 2", "sampling is None: use name: value"),
    ("water.xyz --config type.yaml", "steps is 'many': use int"),
    ("water.xyz --config features.yaml", "model_config.features is 2.5: use int"),
    ("water.xyz --config nan.yaml", "temperature_K is nan: use a positive number"),
    ("water.xyz --device toaster", "device 'toaster' cannot be used"),
    ("water.xyz --device meta", "use 'cpu' or 'cuda'"),
    ("water.xyz --steps 0", "steps is 0: use at least 1"),
    ("water.xyz --steps many", "argument --steps: invalid int value: 'many'"),
    ("water.xyz --temperature -5", "temperature_K is -5.0: use a positive number"),
    ("water.xyz --temperature inf", "temperature_K is inf: use a positive number"),
    ("water.xyz --dynamics verlet", "dynamics is 'verlet': use overdamped or metropolis"),
    ("water.xyz --walkers 0", "walkers is 0: use at least 1"),
    ("water.xyz --data-fraction 2", "data_fraction is 2.0: use above 0, and 1 at most"),
    ("water.xyz --frames-share 2", "frames_share is 2.0: use 0 to 1"),
    ("--loss hamiltonian", "--loss hamiltonian learns from --labels FILE: make it with ase-"),
    ("water.xyz --preset published", "unknown preset 'published': use one of paper"),
    ("water.xyz --memory-gb inf", "memory_gb is inf: use a positive number"),
    ("water.xyz --seed -1", "seed is -1: use a whole number from 0"),
    ("water.xyz --nonsense", "unrecognized arguments: --nonsense"),
    ("water.xyz -o file", "cannot write to the directory file"),
    ("water.xyz -o file/below", "cannot write to the directory file/below"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[words for words, _ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(words, message, folder, capsys):
    bad_inputs(folder)
    before = sorted(os.listdir())
    arguments = words.split()
    output = [] if "-o" in arguments else ["-o", "run"]
    try:
        code = main([*arguments, *output])
    except SystemExit as leaving:
        code = leaving.code
    printed = capsys.readouterr()
    assert code == 2
    (line,) = printed.err.splitlines()
    assert line.startswith("ase-srdft-train: error: ")
    assert message in line
    assert printed.out == ""
    assert sorted(os.listdir()) == before
    with open("file", encoding="utf-8") as file:
        assert file.read() == "mine"


def test_output_is_required(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["water.xyz"])
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the following arguments are required: -o/--output" in line


def contents(path="run"):
    found = {}
    for name in os.listdir(path):
        with open(os.path.join(path, name), "rb") as file:
            found[name] = file.read()
    return found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1"], "holds a run with other settings (seed was 0 and is 1): use the same"),
        (["--data", "frames.traj"], "holds a run on other structures or frames"),
        (["--basis", "6-31g"], "level.basis was 'sto-3g' and is '6-31g'"),
    ],
)
def test_another_runs_directory_is_left_as_it_is(words, message, folder, capsys):
    assert train() == 0
    before = contents()
    capsys.readouterr()
    assert train(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert contents() == before


def test_a_damaged_checkpoint_is_left_as_it_is(folder, capsys):
    assert train() == 0
    with open("run/checkpoint.h5", "r+b") as file:
        file.truncate(1000)
    before = contents()
    capsys.readouterr()
    assert train() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "damaged checkpoint: run/checkpoint.h5 (" in line
    assert contents() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(folder, capsys):
    os.mkdir("run", 0o500)
    assert train() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot write to the directory run: Permission denied" in line


# What is shown


@pytest.mark.slow
def test_lines_are_few(folder, capsys, monkeypatch):
    write_settings(steps=30, validate_every=10)
    assert train() == 0
    first = [line for line in capsys.readouterr().out.splitlines() if " %  step " in line]
    assert 3 < len(first) < 30
    assert "(held out " in first[-1]
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL_SECONDS", -1.0)
    assert train("--steps", "40") == 0
    every = [line for line in capsys.readouterr().out.splitlines() if " %  step " in line]
    assert [line.split("step ")[1].split()[0] for line in every][:3] == ["31", "32", "33"]
    assert all("steps/s" in line for line in every)


def test_a_bar_on_a_terminal(folder, capsys, monkeypatch):
    sample_from_the_start(monkeypatch)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    assert train() == 0
    shown = capsys.readouterr().out
    assert "100 %" in shown
    assert "step 3  E -7" in shown
    assert "4 samples (100 % accepted)" in shown


def test_help_is_fast_and_loads_nothing_heavy():
    probe = (
        "import sys; from ase_srdft.cli.train import _parser; text = _parser().format_help(); "
        "assert '--target-error' in text and '--density-fitting' in text; "
        "sys.exit(bool({'torch', 'pyscf', 'schnetpack'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], timeout=60)
    assert done.returncode == 0


@pytest.mark.slow
def test_terminated_from_outside_and_run_again(folder):
    write_settings(steps=400)
    # the package may be there as this tree alone
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "ase_srdft.cli.train", "water.xyz"]
    command += ["--config", "small.yaml", "-o", "run"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline().endswith("into run\n")
        assert "step 1" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert err == "stopping after this step; Ctrl-C once more to stop at once\n"
    assert "interrupted: " in out
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert again.returncode == 0, again.stderr
    assert "going on in run" in again.stdout
    assert "steps done: 400 steps" in again.stdout


# Where nobody hears it


@pytest.mark.parametrize("reader", ["full", "gone"])
def test_words_that_are_not_heard_cost_no_run(reader, folder, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with (
        open("/dev/full", "w", encoding="utf-8") as full,
        open(writing, "w", encoding="utf-8") as pipe,
    ):
        with contextlib.redirect_stdout(full if reader == "full" else pipe):
            assert train() == 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert sorted(os.listdir("run")) == FILES
    assert metrics("end")[0]["reason"] == "steps done"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (reader == "full")
    assert all("cannot write to standard output (No space left on dev" in line for line in lines)


def test_kernels_that_are_not_there_cost_no_run(folder):
    words = [sys.executable, "-m", "ase_srdft.cli.train", "water.xyz", "-o", "run"]
    environment = os.environ | {"ASE_SRDFT_KERNELS": "sse"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ASE_SRDFT_KERNELS is 'sse'" in done.stderr
    assert not os.path.exists("run")
