"""Every setting of a run: by flag and by YAML, of its type, and in the help with its default."""

import os
import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from ase_srdft.cli import evaluate, info, label, md, plot, relax, train
from ase_srdft.cli.setting_flags import dotted_flag
from ase_srdft.cli.settings_file import read_settings
from ase_srdft.cli.train_input import configuration
from ase_srdft.common.errors import BadInput
from ase_srdft.common.settings import from_plain, settings_of
from ase_srdft.dft.kernels.library import description
from ase_srdft.models.electronic_state import FAMILIES, family
from ase_srdft.training.config import TrainingConfig
from ase_srdft.version import __version__

SETTINGS = {setting.path: setting for setting in settings_of(TrainingConfig())}
#: Values that are not the default, where half or one more of it will not do.
OTHER = {
    "level.xc": "LDA",
    "level.basis": "sto-3g",
    "level.density_fitting": False,
    "model": "qpt",
    "model_config": {"features": 12, "cutoff_bohr": 9.5},
    "loss": "hamiltonian",
    "minutes": 1.5,
    "target_error_uEh": 20.0,
    "target_worst_error_uEh": 80.0,
    "device": "cpu:0",
    "optimiser.learning_rate": 5.0e-3,
    "optimiser.gradient_spike": 3.0,
    "optimiser.error_exponent": 0.5,
    "sampling.dynamics": "langevin",
    "selection.exponent": 0.25,
    "engine.name": "sync",
    "levels": ("LDA/sto-3g", "PBE0/6-31g*"),
    "scope": "water, ice and steam",
    "start_from": "ethanol-pbe-6-31g",
    "engine.sampler_devices": ("cpu", "cuda:1"),
}
#: Values of none of the types that a type converts.
WRONG = {
    int: ["many", 2.5, True, [1], None],
    float: ["long", True, [1], {}],
    bool: ["maybe", 1, [True]],
    str: [1, 2.5, ["x"]],
    tuple: ["cpu", 1, [1]],
    dict: ["features", 1, [1]],
}
#: Defaults that the command finds by itself.
DECIDED = {"threads", "optimiser.learning_rate"}
DECIDED |= {f"level.{name}" for name in ("xc", "basis", "density_fitting", "charge")}


def other(setting):
    """A value that is possible and not the default."""
    if setting.path in OTHER:
        return OTHER[setting.path]
    if isinstance(setting.default, bool):
        return not setting.default
    return setting.default + 1 if isinstance(setting.default, int) else setting.default / 2


def words_of(setting, value):
    """A setting as words of a command."""
    flag = dotted_flag(setting.path)
    if setting.choices == (bool,):
        return [flag if value else re.sub("^--", "--no-", flag)]
    if isinstance(value, dict):
        return [flag, *(f"{name}={each}" for name, each in value.items())]
    if isinstance(value, tuple):
        return [flag, *value]
    return [flag, "off" if value is False else str(value)]


def configured(*words):
    return configuration(train._parser().parse_args(["water.xyz", "-o", "run", *words]))


def at(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


def nested(path, value):
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def write(tmp_path, plain):
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return str(path)


def leaves(cls):
    """How many values a configuration has, counted without `settings_of`."""
    made = cls()
    values = [getattr(made, field.name) for field in fields(cls)]
    return sum(leaves(type(value)) if is_dataclass(value) else 1 for value in values)


def test_all_are_there():
    assert len(SETTINGS) == leaves(TrainingConfig) == 61
    assert all(setting.text for setting in SETTINGS.values())
    assert all(setting.default == at(TrainingConfig(), path) for path, setting in SETTINGS.items())


@pytest.mark.parametrize("path", SETTINGS)
def test_by_flag_and_by_yaml(path, tmp_path):
    setting = SETTINGS[path]
    value = other(setting)
    assert value != setting.default
    by_flag = configured(*words_of(setting, value))
    plain = list(value) if isinstance(value, tuple) else value
    by_yaml = configured("--config", write(tmp_path, nested(path, plain)))
    for config in (by_flag, by_yaml):
        found = at(config, path)
        assert found == value
        assert type(found) is type(value)
    assert by_flag == by_yaml
    # a flag wins over YAML, which wins over a preset
    file = write(tmp_path, nested(path, plain))
    below = configured("--preset", "paper", "--config", file)
    assert at(below, path) == value
    if setting.default not in ((), {}):
        above = configured("--config", file, *words_of(setting, setting.default))
        assert at(above, path) == setting.default


@pytest.mark.parametrize("path", SETTINGS)
def test_types_are_enforced(path):
    setting = SETTINGS[path]
    choices = [choice for choice in setting.choices if choice is not type(None)]
    for value in WRONG[choices[0]]:
        if type(value) in choices:
            continue
        with pytest.raises(BadInput) as caught:
            from_plain(TrainingConfig, nested(path, value))
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)


def shown_defaults(text):
    """The default that a help gives for each of its flags."""
    found = {}
    for block in re.split(r"\n(?=  -)", text):
        flags = re.findall(r"(?<![\w.])--[\w.-]+", block.split("(default")[0])
        default = re.search(r"\(default: ([^;)]*)", " ".join(block.split()))
        found |= dict.fromkeys(flags, default and default[1])
    return found


def as_shown(default):
    if isinstance(default, bool):
        return "on" if default else "off"
    return "none" if default in (None, (), {}) else str(default)


def test_the_long_help_has_every_setting_with_its_default():
    shown = shown_defaults(train._parser(everything=True).format_help())
    for path, setting in SETTINGS.items():
        default = shown[dotted_flag(path)]
        assert (default == as_shown(setting.default)) is (path not in DECIDED), path
        assert default


def test_the_short_help_has_less_with_the_same_defaults(capsys):
    short = shown_defaults(train._parser().format_help())
    assert short["--temperature"] == "500.0"
    assert short["--engine"] == "local"
    assert "--sampling.step-size" not in short
    everything = shown_defaults(train._parser(everything=True).format_help())
    defaults = {flag: default for flag, default in short.items() if flag in everything}
    assert {flag: everything[flag] for flag in defaults} == defaults
    with pytest.raises(SystemExit) as leaving:
        train.main(["--help-all"])
    assert leaving.value.code == 0
    assert shown_defaults(capsys.readouterr().out) == everything


def test_nothing_given_is_the_dataclasses_own_defaults():
    config = configured()
    for path, setting in SETTINGS.items():
        if path != "threads":
            assert at(config, path) == setting.default
    assert config.threads == max(1, len(os.sched_getaffinity(0)) - 1)


@pytest.mark.parametrize(
    ("short", "path"),
    [
        ("--xc LDA", "level.xc"),
        ("--basis sto-3g", "level.basis"),
        ("--density-fitting off", "level.density_fitting"),
        ("--grid-level 2", "level.grid_level"),
        ("--charge 1", "level.charge"),
        ("--temperature 250", "sampling.temperature_K"),
        ("--dynamics langevin", "sampling.dynamics"),
        ("--walkers 5", "sampling.walkers"),
        ("--allow-reactions", "sampling.allow_reactions"),
        ("--target-error 20", "target_error_uEh"),
        ("--target-worst-error 80", "target_worst_error_uEh"),
        ("--batch-size 9", "optimiser.batch_size"),
        ("--learning-rate 0.005", "optimiser.learning_rate"),
        ("--engine sync", "engine.name"),
        ("--samplers 2", "engine.samplers"),
        ("--sampler-device cpu cuda:1", "engine.sampler_devices"),
        ("--max-restarts 6", "engine.max_restarts"),
        ("--trainer-device cpu:0", "device"),
    ],
)
def test_short_flags_are_the_dotted_ones(short, path):
    assert configured(*short.split()) == configured(
        *words_of(SETTINGS[path], other(SETTINGS[path]))
    )
    assert at(configured(*short.split()), path) == other(SETTINGS[path])


def test_a_flag_may_take_a_limit_away(tmp_path):
    file = write(tmp_path, {"minutes": 5})
    assert configured("--config", file).minutes == 5.0
    assert configured("--config", file, "--minutes", "none").minutes is None


@pytest.mark.parametrize("name", FAMILIES)
def test_settings_of_a_family(name, tmp_path):
    for setting in settings_of(family(name).Config()):
        words = ["--model", name, "--model-config", f"{setting.path}={setting.default}"]
        found = configured(*words).model_config
        assert found == {setting.path: setting.default}
        assert type(found[setting.path]) is type(setting.default)
    file = write(tmp_path, {"model": name, "model_config": {"layers": "2"}})
    assert configured("--config", file).model_config == {"layers": 2}
    with pytest.raises(BadInput, match=r"model_config\.layerz"):
        configured("--model", name, "--model-config", "layerz=2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sampling.stepsize 0.2", "(nearest: --sampling.step-size)"),
        ("--sampling.step_size=0.2", "(nearest: --sampling.step-size)"),
        ("--step-size 0.2", "unrecognized arguments: --step-size 0.2 (nearest: --sampling.step-"),
        ("--nonsense 0.2", "unrecognized arguments: --nonsense 0.2 (--help"),
        ("--model-config features", "use NAME=VALUE"),
        ("--optimiser.warmup-steps 1.5", "invalid int value: '1.5'"),
    ],
)
def test_a_flag_that_is_none_is_one_line(words, message, capsys):
    with pytest.raises(SystemExit) as leaving:
        configured(*words.split())
    assert leaving.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


# YAML


def read(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_settings(path)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.e-3", "1.0e-3", "0.001", '"1e-3"', "'.001'"])
def test_numbers_in_yaml(text, tmp_path):
    config = from_plain(
        TrainingConfig, read(tmp_path, f"optimiser:\n  learning_rate: {text}\nsteps: 1e3\n")
    )
    assert config.optimiser.learning_rate == 0.001
    assert (config.steps, type(config.steps)) == (1000, int)


@pytest.mark.parametrize(
    ("text", "value"), [("yes", True), ("on", True), ("No", False), ("off", False), ("true", True)]
)
def test_truth_values_in_yaml(text, value, tmp_path):
    plain = read(tmp_path, f"self_refine: {text}\n")
    assert from_plain(TrainingConfig, plain).self_refine is value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "- 1\n",
        "5\n",
        "false\n",
        "steps\n",
        "steps: 1\nsteps: 2\n",
        "sampling:\n  walkers: 1\n  temperature_K: 300\n  walkers: 2\n",
        "sampling: {walkers: 1}\nsteps: 1\nsampling: {walkers: 2}\n",
        "sampling:\n\twalkers: 1\n",
        "steps: 1\n---\nsteps: 2\n",
        "? [1]\n: 2\n",
        b"steps: \xff\n",
        b"\x00",
        "[" * 500,
        "steps: !!python/object:os.system 1\n",
    ],
)
def test_files_that_are_refused(text, tmp_path):
    with pytest.raises(BadInput) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "settings.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["1:30", "0x10", "0b1", ".inf", ".nan", '"many"', "1.5", "null"])
def test_whole_numbers_that_are_refused(text, tmp_path):
    with pytest.raises(BadInput, match=r"^steps is "):
        from_plain(TrainingConfig, read(tmp_path, f"steps: {text}\n"))


def test_a_leading_zero_is_no_octal_number(tmp_path):
    assert from_plain(TrainingConfig, read(tmp_path, "seed: 010\n")).seed == 10


def test_the_same_name_in_two_parts_is_no_repetition(tmp_path):
    text = "base: &base {walkers: 3}\nsampling: {<<: *base, walkers: 5}\nsteps: 5\n"
    assert read(tmp_path, text)["sampling"] == {"walkers": 5}


@pytest.mark.parametrize("preset", [(), ("--preset", "paper")])
def test_settings_that_were_written_are_read_again(preset, tmp_path):
    config = configured(*preset, *(word for s in SETTINGS.values() for word in words(s)))
    plain = yaml.safe_dump(config.to_plain(), sort_keys=False)
    assert from_plain(TrainingConfig, read(tmp_path, plain)) == config
    again = configured("--config", str(tmp_path / "settings.yaml"))
    assert again == config


def words(setting):
    """All settings at once: not the two that exclude each other."""
    return [] if setting.path in ("loss", "model_config") else words_of(setting, other(setting))


# The commands


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (train, "train"),
        (label, "label"),
        (evaluate, "eval"),
        (md, "md"),
        (relax, "relax"),
        (info, "info"),
        (plot, "plot"),
    ],
)
def test_version_and_width_of_the_help(command, name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for word in ("--version", "--help"):
        with pytest.raises(SystemExit) as leaving:
            command.main([word])
        assert leaving.value.code == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == f"ase-srdft-{name} {__version__}, {description()}"
    assert max(map(len, others)) < 80
    examples = [line for line in others if line.startswith(f"  ase-srdft-{name} ")]
    assert len(examples) in (2, 3)


def test_the_examples_of_the_help_are_understood():
    for command in (train, label, evaluate):
        parser = command._parser()
        lines = parser.format_help().splitlines()
        for line in lines:
            if line.startswith(f"  {parser.prog} "):
                assert parser.parse_args(line.split()[1:])


@pytest.mark.parametrize("word", ["--help", "--help-all", "--version"])
def test_help_loads_nothing_heavy(word):
    probe = (
        f"import sys; from ase_srdft.cli.train import program; sys.argv[1:] = [{word!r}]\n"
        "try: program()\n"
        "except SystemExit as leaving: assert leaving.code == 0\n"
        "sys.exit(bool({'torch', 'pyscf', 'scipy', 'h5py', 'yaml'} & set(sys.modules)))"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", probe]
    done = subprocess.run(command, timeout=60, capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
