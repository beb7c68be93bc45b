"""``ase-srdft-eval``: a model against the SCF at its own level of theory."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ase_srdft.cli.common import Parser, command_parser, positive, run_command
from ase_srdft.cli.frames import add_frames, chosen_frames, frame_nuclei, with_progress
from ase_srdft.cli.level_input import CHARGE_OF_STRUCTURES, LEVEL_FLAGS, add_level, level_values
from ase_srdft.cli.words import words_apart_from
from ase_srdft.common.atomic_files import writable_file, write_atomically
from ase_srdft.common.errors import BadInput

if TYPE_CHECKING:
    from ase import Atoms

    from ase_srdft.models.electronic_state import ElectronicStateModel
    from ase_srdft.reference.accuracy import Accuracy, FrameErrors
    from ase_srdft.reference.label_file import Failure

__all__ = ["main"]

_DESCRIPTION = """\
Compare a model with the self-consistent field of PySCF at one level of
theory (same grid, same density fitting), the model's own, or any for a model
that belongs to none: energy, Hamiltonian,
orbital energies, forces, and how often the model's bracket holds the SCF
energy. Numbers in the files of frames are not used, only the geometries.
Every frame is checked before the first SCF. A frame whose SCF does not
converge is named and left out of the means, and the exit code is 1 in the
end; Ctrl-C and SIGTERM show the means over the frames that are done. In the
file of --json, "frames_asked" and "failed" then tell how many frames there
were and which (from 0, among the chosen ones) failed, and why."""
_EPILOG = """\
examples:
  ase-srdft-eval run/model.srdft frames.traj --last 60
      a model of your own on the last 60 frames
  ase-srdft-eval ethanol-pbe-6-31g frames.npz --json accuracy.json
      a shipped model; the numbers also as JSON
  ase-srdft-eval run/model.srdft frames.xyz --xc PBE0 --basis def2-svp
      a model of the family 'potential' at another level of theory

Exit codes: 0 done, 1 failed, 2 bad input, 130 Ctrl-C, 143 SIGTERM."""
_PROGRAM = "ase-srdft-eval"
_CHARGE = f"the model's; of one without a level, {CHARGE_OF_STRUCTURES}"
_USAGE = f"""\
{_PROGRAM} MODEL FRAMES [options]
       {_PROGRAM} MODEL --card
       {_PROGRAM} --list"""


def _parser() -> Parser:
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG, _USAGE)
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="a .srdft file or a shipped model's name"
    )
    add_frames(parser, needed=False)
    about = parser.add_argument_group("about models, without frames")
    about.add_argument("--list", action="store_true", help="the shipped models, a line each")
    about.add_argument("--card", action="store_true", help="what MODEL was trained on, how well")
    add_level(parser, dict.fromkeys(LEVEL_FLAGS, "the model's") | {"level.charge": _CHARGE})
    parser.add_argument("--no-forces", action="store_true", help="leave out forces: faster")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="of the model's kernels and of the SCF, for each frame (default: one of the kernels, "
        "and for the SCF what OMP_NUM_THREADS says)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    parser = _parser()
    return run_command(parser, lambda options: _answer(parser, options), arguments)


def _answer(parser: Parser, options: argparse.Namespace) -> int:
    from ase_srdft.cli.cards import answer_about_models

    if options.list or options.card:
        given = {name for name, value in vars(options).items() if value != parser.get_default(name)}
        return answer_about_models(options.model, given)
    if options.frames is None:
        raise BadInput(
            f"no {'MODEL' if options.model is None else 'FRAMES'}: give MODEL FRAMES to compare a "
            "model with the SCF, MODEL --card for what it was trained on, or --list for the "
            "models that ship"
        )
    return _evaluate(options)


@dataclass(kw_only=True)
class _Outcome:
    """What came of the frames so far.

    Attributes:
        nasked: how many frames there are.
        errors: of those that are done.
        failures: those that failed.
    """

    nasked: int
    errors: list[FrameErrors] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every frame is done."""
        return len(self.errors) == self.nasked

    @property
    def accuracy(self) -> Accuracy | None:
        """Means over the frames that are done; None if there are none."""
        from ase_srdft.reference.accuracy import average

        return average(self.errors) if self.errors else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the means, and of what if it is not of all frames."""
        accuracy = self.accuracy
        numbers: dict[str, Any] = {"n_frames": 0} if accuracy is None else accuracy.to_dict()
        if self.whole:
            return numbers
        failed = [{"frame": each.frame, "reason": each.reason} for each in self.failures]
        return numbers | {"frames_asked": self.nasked, "failed": failed}


def _evaluate(options: argparse.Namespace) -> int:
    from ase_srdft.common.devices import torch_device
    from ase_srdft.models.model_file import load_model
    from ase_srdft.models.shipped_models import model_path
    from ase_srdft.reference.accuracy import charge_of_frames, frame_results
    from ase_srdft.reference.label_file import Failure

    if options.json is not None:
        writable_file(options.json)
    device = torch_device(options.device)
    path = model_path(options.model)
    _check_not_overwritten(options.json, (Path(path), Path(options.frames)))
    model = load_model(path).model.to(device)
    given = {name.removeprefix("level."): v for name, v in level_values(options).items()}
    wanted = {name: value for name, value in given.items() if value is not None}
    model = model.at_level(replace(model.level, **wanted))
    frames = chosen_frames(options)
    charge = charge_of_frames(model) if given["charge"] is None else given["charge"]
    nuclei = frame_nuclei(frames, options.frames, charge)
    outcome, written = _Outcome(nasked=len(frames)), True
    results = frame_results(model, nuclei, not options.no_forces, options.threads)
    try:
        with _ended_by_sigterm():
            for result in with_progress(results, len(frames)):
                if isinstance(result, Failure):
                    outcome.failures.append(result)
                else:
                    outcome.errors.append(result)
    finally:  # whatever ends it, what has been computed is kept and shown
        if outcome.errors or outcome.failures:
            written = options.json is None or _write_json(options.json, outcome)
            with words_apart_from(options.json):
                _print_report(options, model, frames, outcome)
    return 0 if outcome.whole and written else 1


def _check_not_overwritten(output: Path | None, inputs: Sequence[Path]) -> None:
    """Make sure that the numbers do not replace what they are made from.

    Raises:
        BadInput: they would.
    """
    for path in inputs:
        if output is not None and output.exists() and path.exists() and output.samefile(path):
            raise BadInput(
                f"--json {output} would replace {path}, which is read: give another file"
            )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM leaves by the way of Ctrl-C, as an exception, not on the spot."""
    if threading.current_thread() is not threading.main_thread():
        yield  # where signals do not arrive
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _write_json(path: Path, outcome: _Outcome) -> bool:
    """Whether the numbers could be written; if not, it is said why."""
    text = json.dumps(outcome.to_dict(), indent=2, allow_nan=False) + "\n"
    try:
        write_atomically(path, text)
    except OSError as err:
        reason = err.strerror or str(err)
        print(f"{_PROGRAM}: error: cannot write {path}: {reason}; make room", file=sys.stderr)
        return False
    return True


def _number(value: float) -> str:
    """Three significant digits, and one decimal at least.

    >>> [_number(value) for value in (1234.56, 12.345, 0.21372, 0.0, 0.0000123)]
    ['1234.6', '12.3', '0.214', '0.0', '1.23e-05']
    """
    if value == 0.0:
        return "0.0"
    exponent = math.floor(math.log10(abs(value)))
    return f"{value:.2e}" if exponent < -4 else f"{value:.{max(1, 2 - exponent)}f}"


def _percentage(share: float) -> str:
    """In percent, with as many digits as it takes not to round up to all or down to none.

    >>> [_percentage(share) for share in (1.0, 59 / 60, 0.9999, 0.0001, 0.0)]
    ['100.0', '98.3', '99.99', '0.01', '0.0']
    """
    digits = next(
        n for n in range(1, 16) if (round(share, n + 2) in (0.0, 1.0)) == (share in (0, 1))
    )
    return f"{100.0 * share:.{digits}f}"


def _rows(accuracy: Accuracy) -> list[tuple[str, str, str]]:
    """Quantity, value and unit of each line of the table."""

    def number(value: float | None) -> str:
        return "-" if value is None else _number(value)

    rows = [
        ("energy, mean error", number(accuracy.energy_mae_uEh), "µEh"),
        ("energy, largest error", number(accuracy.energy_max_uEh), "µEh"),
        ("Hamiltonian, mean error", number(accuracy.hamiltonian_mae_uEh), "µEh"),
        ("occupied orbital energies, mean error", number(accuracy.orbital_energy_mae_uEh), "µEh"),
        ("HOMO, mean error", number(accuracy.homo_mae_uEh), "µEh"),
        ("LUMO, mean error", number(accuracy.lumo_mae_uEh), "µEh"),
        ("HOMO-LUMO gap, mean error", number(accuracy.gap_mae_uEh), "µEh"),
        ("forces, mean error", number(accuracy.forces_mae_meV_per_A), "meV/Å"),
        ("forces, largest error", number(accuracy.forces_max_meV_per_A), "meV/Å"),
        ("bracket holds the SCF energy", _percentage(accuracy.bracket_coverage), "% of frames"),
        ("bracket, mean width", number(accuracy.bracket_width_mean_uEh), "µEh"),
    ]
    return [row for row in rows if row[1] != "-"]


def _print_report(
    options: argparse.Namespace,
    model: ElectronicStateModel,
    frames: Sequence[Atoms],
    outcome: _Outcome,
) -> None:
    nparameters = sum(parameter.numel() for parameter in model.parameters())
    formulas = dict.fromkeys(atoms.get_chemical_formula() for atoms in frames)
    shown = ", ".join(islice(formulas, 4)) + (" ..." if len(formulas) > 4 else "")
    ndone = len(outcome.errors)
    count = str(ndone) if outcome.whole else f"only {ndone} of the {outcome.nasked} asked for"
    heading = [
        ("model", f"{options.model} ({model.family}, {nparameters} parameters)"),
        ("level", f"{model.level}{_of_charge(model)}"),
        ("frames", f"{count} of {options.frames} ({shown})"),
        ("against", "converged SCF of PySCF at the same level"),
    ]
    for name, value in heading:
        print(f"{name:<8} {value}")
    accuracy = outcome.accuracy
    rows = [] if accuracy is None else _rows(accuracy)
    if rows:
        print()
    if sys.stdout.isatty() and rows:
        _print_rich(rows)
    else:
        for quantity, value, unit in rows:
            print(f"{quantity:<38} {value:>12} {unit}")
    sys.stdout.flush()
    for failure in outcome.failures:
        print(f"{_PROGRAM}: frame {failure.frame}: {failure.reason}", file=sys.stderr)


def _of_charge(model: ElectronicStateModel) -> str:
    return "" if model.level_free else f", charge {model.level.charge}"


def _print_rich(rows: Sequence[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("quantity")
    table.add_column("value", justify="right")
    table.add_column("unit")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
