"""``ase-srdft-train``: from structures to a trained calculator."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ase_srdft.cli.common import Parser, command_parser, run_command, speaking
from ase_srdft.cli.stop_request import INTERRUPTED, StopRequest
from ase_srdft.cli.supervisor import supervise
from ase_srdft.cli.train_input import add_training_settings, configuration, dataset
from ase_srdft.common.atomic_files import what_went_wrong
from ase_srdft.common.errors import BadInput, RankLost, SamplingFailed, WorkerFailed
from ase_srdft.common.units import MICROHARTREE
from ase_srdft.parallel.allocator import keep_freed_memory
from ase_srdft.sampling.config import EngineConfig
from ase_srdft.training.presets import PRESETS

if TYPE_CHECKING:
    from ase_srdft.parallel.ranks import Ranks
    from ase_srdft.runs.run_directory import RunDirectory
    from ase_srdft.training.events import Event
    from ase_srdft.training.trainer import Trainer

__all__ = ["main"]

_DESCRIPTION = """\
Train a calculator of Kohn-Sham quality from structures alone: a network
predicts the electronic state, its Kohn-Sham energy is the loss, and the
geometries come from Langevin dynamics on the model's own energy.  The same
command in the same directory goes on where it stopped."""
_EPILOG = """\
examples:
  ase-srdft-train water.xyz -o water-run --target-error 20
      from one structure, until the certified error is 20 microhartree
  ase-srdft-train smiles:CCO g2:CH3OCH3 more.smi -o run
      from molecules by SMILES (with the extra [smiles]) and by ASE's names
  ase-srdft-train --data frames.npz --no-self-refine --xc PBE0 -o run
      on frames that you have, without sampling

Exit codes: 0 done, 1 failed, 2 bad input, 75 interrupted (run it again to go
on)."""
_PROGRAM = "ase-srdft-train"
_USAGE = f"{_PROGRAM} [STRUCTURE ...] -o DIR [options]"
_MAX_RESTARTS = EngineConfig.max_restarts
#: So many molecules are named, and others counted.
_SHOWN_NAMES = 8
#: Molecules with the widest brackets that the end names.
_SHOWN_WORST = 5


def _parser(everything: bool = False) -> Parser:
    """The command's options; the help shows the common settings, or all of them."""
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG, _USAGE)
    parser.add_argument("--help-all", action=_HelpAll, help="show every setting and exit")
    parser.add_argument(
        "structures",
        nargs="*",
        metavar="STRUCTURE",
        help="one or more: any format of ASE, a .smi file of SMILES, smiles:CCO, g2:CH3OH, or g2:*",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help="directory of the run"
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE.yaml",
        help="settings by name, such as the config.yaml of a run; flags win",
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings by name: {', '.join(PRESETS)}; --config and flags win",
    )
    parser.add_argument(
        "--data", nargs="+", default=[], metavar="FILE", help="frames: extxyz, .traj, .db, .npz"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE.h5",
        help="of ase-srdft-label: with --loss hamiltonian; --data may choose among its frames",
    )
    parser.add_argument(
        "--rank-timeout",
        type=float,
        default=1800.0,
        metavar="SECONDS",
        help="under torchrun: wait no longer for another rank (default: %(default)s)"
        if everything
        else argparse.SUPPRESS,
    )
    parser.add_argument(
        "--guess",
        metavar="STR",
        help="guess Fock matrix: roothaan or minao, and for fock and qpt also sap or core "
        "(default: that of the model's family)",
    )
    add_training_settings(parser, everything)
    return parser


class _HelpAll(argparse.Action):
    """Like ``--help``, with every setting."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        _parser(everything=True).print_help()
        parser.exit()


def program() -> int:
    """The command as users start it: a trainer that is started again if it is killed.

    Under torchrun that is the business of torchrun.
    """
    if "WORLD_SIZE" in os.environ:
        return main(supervisor=os.getppid())
    return speaking(_PROGRAM, _supervise)


def _supervise() -> int:
    options = _parser().parse_args()
    given = getattr(options, "engine.max_restarts")
    restarts = _MAX_RESTARTS if given is None else max(given, 0)
    return supervise("ase_srdft.cli.train:supervised", sys.argv[1:], _PROGRAM, restarts)


def supervised() -> int:
    """What `program` starts; the first argument is its process."""
    return main(sys.argv[2:], supervisor=int(sys.argv[1]))


def main(arguments: Sequence[str] | None = None, supervisor: int | None = None) -> int:
    """Run the command in this process; returns the exit code.

    Args:
        arguments: without the program's name; None for those of the process.
        supervisor: the process without which this one shall not go on.
    """
    # Threads each handle their own geometries; parallel loops inside operations would only
    # get in their way.  This must be said before torch and PySCF are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if supervisor is not None:  # this process is ours alone
        keep_freed_memory()
    with StopRequest(supervisor, quiet=os.environ.get("RANK", "0") != "0") as stop:
        return run_command(_parser(), lambda options: _train(options, stop), arguments)


def _train(options: argparse.Namespace, stop: StopRequest) -> int:
    import torch

    from ase_srdft.parallel.ranks import Ranks

    torch.set_num_threads(1)
    try:
        with Ranks.from_environment(options.rank_timeout) as ranks:
            return _train_with(ranks, options, stop)
    except RankLost as err:
        print(f"{_PROGRAM}: error: {err}", file=sys.stderr)
        return 1


def _train_with(ranks: Ranks, options: argparse.Namespace, stop: StopRequest) -> int:
    """The part of one rank, which may be all there is; the lead rank alone writes and prints."""
    try:
        trainer, directory = _prepared(ranks, options, stop)
        code = _follow(trainer, stop) if directory is None else _lead(trainer, directory, stop)
    except BadInput:
        if ranks.is_lead:
            raise
        return 2
    except OSError as err:
        print(
            f"{_PROGRAM}: error: cannot write {err.filename or options.output} "
            f"({what_went_wrong(err)}): make room and run the same command again, the last "
            "checkpoint is whole",
            file=sys.stderr,
        )
        return 1
    return ranks.broadcast(code)  # no rank ends before the files are there


def _prepared(
    ranks: Ranks, options: argparse.Namespace, stop: StopRequest
) -> tuple[Trainer, RunDirectory | None]:
    """A trainer where the last checkpoint left off, and the directory if this rank is to write."""
    from ase_srdft.runs.checkpoint import Checkpoints, load_checkpoint, run_identity
    from ase_srdft.runs.run_directory import RunDirectory
    from ase_srdft.training.trainer import Trainer

    checkpoints = Checkpoints(options.output)  # the lead alone writes them, and publishes

    def new_trainer() -> Trainer:
        config = configuration(options)
        may_publish = checkpoints.save_if_due if ranks.is_lead else None
        return Trainer(config, dataset(options, config), ranks=ranks, may_publish=may_publish)

    def directory_of_lead() -> RunDirectory | None:
        return RunDirectory(options.output, trainer, checkpoints) if ranks.is_lead else None

    def same_checkpoint() -> None:
        if not ranks.is_lead and not load_checkpoint(options.output, trainer):
            raise BadInput(f"no checkpoint in {options.output}: all ranks must see one directory")

    trainer = ranks.run_on_all(new_trainer)
    stop.attach(trainer)
    ranks.check_same(run_identity(trainer), "settings or data")
    directory = ranks.run_on_all(directory_of_lead)
    if ranks.broadcast(directory is not None and directory.resumed):
        ranks.run_on_all(same_checkpoint)
    return trainer, directory


def _lead(trainer: Trainer, directory: RunDirectory, stop: StopRequest) -> int:
    """Train, write and show.

    Returns:
        The exit code.

    Raises:
        OSError: a file cannot be written.
    """
    from ase_srdft.cli.progress import Status, progress_display

    first, config = trainer.updater.step, trainer.config
    for note in trainer.notes:
        print(f"{_PROGRAM}: {note}", file=sys.stderr, flush=True)
    where = f"{'going on in' if directory.resumed else 'into'} {directory.path}"
    levels = ", ".join(map(str, config.all_levels))
    print(f"{_shortened(trainer.names)} at {levels}, {where}", flush=True)
    status = Status(config.steps, config.minutes, first, trainer.counters.elapsed)
    try:
        with progress_display(status) as show:
            for event in trainer.run():
                directory.record(event)
                show(event)
                _print_event(event)
                stop.check_supervisor()
        reason = _reason(trainer)
        directory.finish(reason)
    except (SamplingFailed, WorkerFailed, FloatingPointError) as err:
        print(f"{_PROGRAM}: error: {err}", file=sys.stderr)
        return 1
    finally:
        directory.close()
    idle = trainer.updater.step == first
    _print_summary(directory.path, trainer, reason, idle)
    return INTERRUPTED if reason == "interrupted" else 0


def _print_event(event: Event) -> None:
    """Print what a user should know besides the progress: restarts and roll-backs."""
    if event.worker is not None:
        worker = event.worker
        words = f"{worker.worker} {worker.reason}: started again from its last samples "
        words += f"(restart {worker.nrestarts})"
    elif event.training is not None and event.training.rolled_back:
        error = event.training.hamiltonian_error
        what = "bracket" if error is None else "Hamiltonian error"
        width = MICROHARTREE * (event.training.bracket_width if error is None else error)
        size = f"{width:.0f} microhartree" if math.isfinite(width) else "without bound"
        words = f"the weights diverged at step {event.step} ({what} {size}): back to those of "
        words += "before, with half the learning rate"
    else:
        return
    print(f"{_PROGRAM}: {words}", file=sys.stderr, flush=True)


def _follow(trainer: Trainer, stop: StopRequest) -> int:
    """Train along with the lead rank, whose exit code is the one that counts."""
    try:
        for _ in trainer.run():
            stop.check_supervisor()
    except (SamplingFailed, WorkerFailed, FloatingPointError):
        return 1
    return 0


def _reason(trainer: Trainer) -> str:
    config = trainer.config
    if trainer.target_is_reached:
        return "target reached"
    if trainer.updater.step >= config.steps:
        return "steps done"
    if config.minutes is not None and trainer.progress >= 1.0:
        return "time is up"
    return "interrupted"


def _shortened(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(names[:_SHOWN_NAMES])
    return shown + (f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else "")


def _print_summary(output: Path, trainer: Trainer, reason: str, idle: bool) -> None:
    from ase_srdft.training.data.starts import molecules_at_a_time

    counters = trainer.counters
    width, largest = counters.best_width * 1e6, counters.best_largest_width * 1e6
    certified = f"{width:.1f} microhartree"
    if math.isfinite(largest):
        certified += f", at most {largest:.1f} microhartree"
    certified += " (mean bracket width, held out)"
    known, nmolecules = counters.sampled_molecules, len(trainer.names)
    each = ", each at a level of theory" if len(trainer.config.all_levels) > 1 else ""
    barren = [name for index, name in enumerate(trainer.names) if known and index not in known]
    if barren and molecules_at_a_time(nmolecules, trainer.config.sampling.walkers):
        print(f"so far there are samples of {len(known)} of the {nmolecules} molecules{each}")
    elif barren:
        names = _shortened(barren)
        print(f"no samples of {names}: its bonds changed, or its energy did, each time; relax it")
    if math.isfinite(width):
        print(f"held out: {_what_is_held_out(trainer)}")
        if nunknown := nmolecules - len(trainer.held_out.molecules):
            print(
                f"of {nunknown} of the {nmolecules} molecules{each}, nothing is held out: the "
                f"certified error does not speak of them (--validation-frames {nmolecules})"
            )
        if worst := trainer.worst_molecules[:_SHOWN_WORST]:
            named = ", ".join(f"{name} {1e6 * its:.1f}" for name, its in worst)
            print(f"widest, mean of each molecule, microhartree: {named}")
        missed = _of_targets_that_were_missed(trainer)
        if missed and not trainer.target_is_reached:
            print(missed)
    print(
        f"{'nothing left to do, ' if idle and reason != 'interrupted' else ''}"
        f"{reason}: {trainer.updater.step} steps, {trainer.counters.nsamples} samples, "
        f"certified error {certified if math.isfinite(width) else 'not validated yet'}"
    )
    print(f"model: {output / 'model.srdft'}   report: {output / 'report.html'}")
    if reason == "interrupted":
        print("the same command goes on from here")


def _what_is_held_out(trainer: Trainer) -> str:
    """Of which geometries the certified error is a mean."""
    total, nframes = len(trainer.held_out), trainer.held_out.nframes
    nsampled = trainer.counters.validated_nsampled
    ncopies = total - nframes - nsampled
    parts = [
        (nframes, "given frames"),
        (nsampled, "samples of the run's own dynamics"),
        (ncopies, "rattled copies of the given structures"),
    ]
    words = " and ".join(f"{count} {what}" for count, what in parts if count)
    if not ncopies:
        return words
    moved = trainer.counters.copies_moved_fs
    words += f", taken along {moved:g} fs by dynamics" if moved else ", near which dynamics starts"
    return f"{words}: longer dynamics may meet wider brackets"


def _of_targets_that_were_missed(trainer: Trainer) -> str:
    """In words; empty where there was no target."""
    config, counters = trainer.config, trainer.counters
    asked = (
        (config.target_error_uEh, "", counters.best_width),
        (config.target_worst_error_uEh, " for the worst molecule", trainer.validator.worst_width),
    )
    targets = [(target, whose, width) for target, whose, width in asked if target is not None]
    if not targets:
        return ""
    named = " and ".join(f"{target:g} microhartree{whose}" for target, whose, _ in targets)
    words = f"the target of {named} was not reached"
    if all(1e6 * width < target for target, _, width in targets):
        words += ": it counts once dynamics has sampled all that is held out; train longer"
    return words


if __name__ == "__main__":
    sys.exit(program())
