"""``ase-srdft-md``: molecular dynamics whose every energy keeps a promise."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase_srdft.cli.calculator_flags import (
    add_calculator,
    calculator_parameters,
    chosen_structure,
)
from ase_srdft.cli.common import Parser, command_parser, run_command
from ase_srdft.cli.dynamics_progress import DynamicsStatus, dynamics_display
from ase_srdft.cli.setting_flags import add_flags, given_settings
from ase_srdft.cli.stop_request import INTERRUPTED, StopRequest
from ase_srdft.common.settings import from_plain, settings_of
from ase_srdft.dynamics.dynamics_config import DynamicsConfig

if TYPE_CHECKING:
    from ase_srdft.dynamics.dynamics_run import DynamicsRun

__all__ = ["main"]

_DESCRIPTION = """\
Move a molecule by Kohn-Sham forces that keep a promise: each energy is within
--max-error of the SCF's, each force within --max-force-error, whatever the
model.  The folder gets the trajectory (md.traj, with velocities and with what
each answer is worth), a log, the settings and a page with plots
(summary.html).  The same command goes on where it stopped, or was killed; with
a longer --time, also where it was done."""
_EPILOG = """\
examples:
  ase-srdft-md g2:CH3OH --time 2 -o methanol
      2 ps of methanol at 300 K, with the general model
  ase-srdft-md smiles:CCO --dynamics nve --timestep 0.5 --time 500fs -o ethanol
      at constant energy, with velocities of 300 K to begin with
  ase-srdft-md dimer.xyz --xc B3LYP --learn beside --time 10 -o dimer
      the model learns from where it was worst, and is in dimer/model.srdft

Velocities in the file of the structure are kept.  Of several structures of a
molecule in a file the last one moves.

Exit codes: 0 done, 1 failed, 2 bad input, 75 interrupted (run it again to go
on)."""
_PROGRAM = "ase-srdft-md"
#: Time steps (fs) above are too long for the stretching of bonds to H, of 9 fs and more.
_LONG_STEP_FS = 2.0
_TIMES = ("dynamics.time_ps", "dynamics.timestep_fs")
_FLAGS: dict[str, tuple[str, ...]] = {
    "dynamics.dynamics": ("--dynamics",),
    "dynamics.temperature_K": ("--temperature",),
    "dynamics.friction": ("--friction",),
    "dynamics.seed": ("--seed",),
    "dynamics.interval": ("--interval",),
}
#: Femtoseconds of the units that a time may have, the longer words first.
_UNITS_FS = {"fs": 1.0, "ps": 1e3, "ns": 1e6}
#: Parameters of the calculator that may differ when a run goes on.
_MAY_CHANGE = ("learn", "threads", "device")


def _parser() -> Parser:
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "structure",
        metavar="STRUCTURE",
        help="any format of ASE, smiles:CCO, or g2:CH3OH",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="folder of the run"
    )
    settings = [each for each in settings_of(DynamicsConfig(), "dynamics.") if each.path in _FLAGS]
    add_flags(parser, settings, {"dynamics": _FLAGS}, {"dynamics.friction": "0.01; 1 overdamped"})
    times = parser.add_argument_group("time")
    for flag, path, unit, text in (
        ("--time", _TIMES[0], "ps", "that the run ends at"),
        ("--timestep", _TIMES[1], "fs", "of the integrator"),
    ):
        default = getattr(DynamicsConfig(), path.rpartition(".")[2])
        times.add_argument(
            flag,
            dest=path,
            type=_time_in(unit),
            metavar="TIME",
            help=f"{text}, in {unit} or with its unit: 500fs, 2ps (default: {default:g})",
        )
    add_calculator(parser)
    return parser


def _time_in(unit: str) -> Any:
    """What reads a time and gives it in a unit."""

    def time(text: str) -> float:
        word = text.strip().lower()
        own = next((name for name in _UNITS_FS if word.endswith(name)), unit)
        try:
            number = float(word.removesuffix(own))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no time: use a number, or one with fs, ps or ns"
            ) from None
        return number * _UNITS_FS[own] / _UNITS_FS[unit]

    return time


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    # the calculator's threads share the kernels; loops inside operations would get in their way
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with StopRequest() as stop:
        return run_command(_parser(), lambda options: _move(options, stop), arguments)


def _move(options: argparse.Namespace, stop: StopRequest) -> int:
    import torch
    from ase.calculators.calculator import CalculationFailed, SCFError

    from ase_srdft.runs.report.dynamics_page import write_dynamics_page

    torch.set_num_threads(1)
    try:
        run = _prepared(options)
    except (CalculationFailed, SCFError) as err:
        print(f"{_PROGRAM}: error: {options.structure}: {err}", file=sys.stderr)
        return 1
    try:
        stop.attach(run)
        _announce(run, options.structure)
        nothing_left = run.finished
        _follow(run)
    except (CalculationFailed, SCFError) as err:
        print(
            f"{_PROGRAM}: error: at step {run.step}: {err}; {run.path} holds the run so far",
            file=sys.stderr,
        )
        return 1
    finally:
        run.close()
    write_dynamics_page(run.path)
    if nothing_left:
        return _with_nothing_left(run)
    return _concluded(run)


def _prepared(options: argparse.Namespace) -> DynamicsRun:
    """The run, where its last checkpoint left off.

    Raises:
        BadInput: what is asked for cannot be, or the folder holds another run.
    """
    from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
    from ase_srdft.dynamics.dynamics_run import DynamicsRun, learned_model

    given = given_settings(options, settings_of(DynamicsConfig(), "dynamics."))
    plain = {path.removeprefix("dynamics."): value for path, value in given.items()}
    config = from_plain(DynamicsConfig, plain)
    parameters = calculator_parameters(options)
    atoms = chosen_structure(options.structure, parameters["charge"])
    learned = learned_model(options.output)
    model = parameters["model"] if learned is None else learned
    atoms.calc = SRDFTCalculator(**(parameters | {"model": model}))
    if not options.output.exists():
        atoms.get_forces()  # what cannot be answered is refused before there is a folder
    settings = {"structure": options.structure, "calculator": parameters}
    identity = {name: value for name, value in parameters.items() if name not in _MAY_CHANGE}
    return DynamicsRun(options.output, atoms, config, settings, identity)


def _announce(run: DynamicsRun, structure: str) -> None:
    config = run.config
    words = [f"{run.atoms.get_chemical_formula()} ({structure}) at {run.level}"]
    words.append(f"{config.dynamics}, {config.temperature_K:g} K, {config.timestep_fs:g} fs")
    words.append(f"{'going on in' if run.resumed else 'into'} {run.path}")
    print(", ".join(words), flush=True)
    if config.timestep_fs > _LONG_STEP_FS and config.dynamics != "overdamped":
        print(
            f"{_PROGRAM}: warning: a time step of {config.timestep_fs:g} fs is too long for bonds: "
            "0.5 to 1 fs are usual",
            file=sys.stderr,
        )
    if run.drew_momenta:
        print(f"velocities drawn at {config.temperature_K:g} K with seed {config.seed}", flush=True)


def _follow(run: DynamicsRun) -> None:
    status = DynamicsStatus(run.config.nsteps, run.config.timestep_fs, run.step)
    with dynamics_display(status) as show:
        for step in run.run():
            show(step)


def _with_nothing_left(run: DynamicsRun) -> int:
    """Say that the run has come to its time before, or further; returns the exit code."""
    config, at = run.config, f"{run.config.time_of(run.step):g} ps"
    asked = f"--time asks for {config.time_ps:g} ps only, and nothing was cut off; "
    print(
        f"nothing left to do: {run.path} holds {run.step} steps, {at}; "
        f"{asked if run.step > config.nsteps else ''}a --time of more than {at} goes on with it"
    )
    _print_files(run)
    return 0


def _concluded(run: DynamicsRun) -> int:
    """Say what came of the run; returns the exit code."""
    config, total = run.config, max(1, sum(run.paths.values()))
    shares = ", ".join(f"{path} {100 * n / total:.0f} %" for path, n in run.paths.most_common())
    reason = "done" if run.finished else "interrupted"
    print(
        f"{reason}: {run.step} steps, "
        f"{config.time_of(run.step):g} of {config.time_ps:g} ps in {run.elapsed_s:.1f} s; {shares}"
    )
    _print_files(run)
    if run.finished:
        return 0
    print("the same command goes on from here")
    return INTERRUPTED


def _print_files(run: DynamicsRun) -> None:
    files = ["md.traj", "summary.html"] + ["model.srdft"] * (run.path / "model.srdft").exists()
    print("   ".join(f"{name}: {run.path / name}" for name in files))


if __name__ == "__main__":
    sys.exit(main())
