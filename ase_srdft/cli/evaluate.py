"""``ase-srdft-eval``: a model against the SCF at its own level of theory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ase_srdft.cli.common import Parser, check_writable, run_command
from ase_srdft.cli.frames import add_frames, chosen_frames, with_progress
from ase_srdft.cli.words import words_apart_from

if TYPE_CHECKING:
    from ase import Atoms

    from ase_srdft.evaluation import Accuracy
    from ase_srdft.models.state import ElectronicStateModel

__all__ = ["main"]

_DESCRIPTION = """\
Compare a model with the self-consistent field of PySCF at the model's own level of theory (same
grid, same density fitting): energy, Hamiltonian, orbital energies, forces, and how often the
model's bracket holds the SCF energy.  Numbers in the files of frames are not used, only the
geometries."""


def _parser() -> Parser:
    parser = Parser(prog="ase-srdft-eval", description=_DESCRIPTION)
    parser.add_argument("model", metavar="MODEL", help="a .srdft file or a shipped model's name")
    add_frames(parser)
    parser.add_argument("--no-forces", action="store_true", help="leave out forces: faster")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(_parser(), _evaluate, arguments)


def _evaluate(options: argparse.Namespace) -> int:
    from ase_srdft.devices import torch_device
    from ase_srdft.evaluation import average, frame_errors
    from ase_srdft.files import replace_atomically
    from ase_srdft.models.library import model_path
    from ase_srdft.models.model_file import load_model

    if options.json is not None:
        check_writable(options.json)
    device = torch_device(options.device)
    model = load_model(model_path(options.model)).model.to(device)
    frames = chosen_frames(options)
    errors = frame_errors(model, frames, forces=not options.no_forces)
    accuracy = average(with_progress(errors, len(frames)))
    try:
        if options.json is not None:
            replace_atomically(options.json, lambda path: _write_json(path, accuracy))
    finally:  # an error of writing comes after the numbers
        with words_apart_from(options.json):
            _print_report(options, model, frames, accuracy)
    return 0


def _write_json(path: Path, accuracy: Accuracy) -> None:
    text = json.dumps(accuracy.to_dict(), indent=2, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _rows(accuracy: Accuracy) -> list[tuple[str, str, str]]:
    """Quantity, value and unit of each line of the table."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

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
        ("bracket holds the SCF energy", number(100.0 * accuracy.bracket_coverage), "% of frames"),
        ("bracket, mean width", number(accuracy.bracket_width_mean_uEh), "µEh"),
    ]
    return [row for row in rows if row[1] != "-"]


def _print_report(
    options: argparse.Namespace,
    model: ElectronicStateModel,
    frames: Sequence[Atoms],
    accuracy: Accuracy,
) -> None:
    nparameters = sum(parameter.numel() for parameter in model.parameters())
    formulas = dict.fromkeys(atoms.get_chemical_formula() for atoms in frames)
    shown = ", ".join(islice(formulas, 4)) + (" ..." if len(formulas) > 4 else "")
    heading = [
        ("model", f"{options.model} ({model.family}, {nparameters} parameters)"),
        ("level", f"{model.level}, charge {model.level.charge}"),
        ("frames", f"{accuracy.n_frames} of {options.frames} ({shown})"),
        ("against", "converged SCF of PySCF at the same level"),
    ]
    for name, value in heading:
        print(f"{name:<8} {value}")
    print()
    if sys.stdout.isatty():
        _print_rich(_rows(accuracy))
    else:
        for quantity, value, unit in _rows(accuracy):
            print(f"{quantity:<38} {value:>12} {unit}")


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
