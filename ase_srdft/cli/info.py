"""``ase-srdft-info``: what a model is, in words or as a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ase_srdft.cli.common import Parser, command_parser, run_command
from ase_srdft.common.errors import BadInput

__all__ = ["main"]

_DESCRIPTION = """\
Tell what a model is: levels of theory, elements, what it was trained on and
at which temperature, its certified error on geometries held out, size and
checksum. Of several models, a table. As a picture or a page, besides: the
structure, the distribution of the errors, and the energies it sampled, as far
as the file records them, or the log of the run that it lies beside."""
_EPILOG = """\
examples:
  ase-srdft-info
      the models that ship, a line each
  ase-srdft-info organics
      the card of one
  ase-srdft-info run/model.srdft --picture model.html
      and a page of it for a browser
  ase-srdft-info run-1/model.srdft run-2/model.srdft
      two of one's own, side by side

Exit codes: 0 done, 1 failed, 2 bad input."""
_PROGRAM = "ase-srdft-info"


def _parser() -> Parser:
    parser = command_parser(_PROGRAM, _DESCRIPTION, _EPILOG)
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="a .srdft file or a shipped model's name (default: all that ship)",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        metavar="FILE",
        help="of one MODEL: a .png, .svg, .pdf or .html to write",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    return run_command(_parser(), _tell, arguments)


def _tell(options: argparse.Namespace) -> int:
    from ase_srdft.calculator.model_card import model_card
    from ase_srdft.cli.cards import print_table
    from ase_srdft.models.shipped_models import list_models

    models: list[str] = options.models
    if options.picture is not None:
        return _draw(models, options.picture)
    if len(models) == 1:
        print(model_card(models[0]))
    else:
        print_table([model_card(name) for name in models or list_models()])
    return 0


def _draw(models: Sequence[str], path: Path) -> int:
    from ase_srdft.common.atomic_files import writable_file
    from ase_srdft.runs.report.model_picture import (
        MODEL_PICTURES,
        read_model_and_run,
        write_model_picture,
    )
    from ase_srdft.runs.report.picture_file import check_suffix

    if len(models) != 1:
        raise BadInput(f"--picture with {len(models) or 'no'} MODELs: give it one")
    check_suffix(path, MODEL_PICTURES)
    model = read_model_and_run(models[0])
    write_model_picture(writable_file(path), model)
    print(f"{model.card}\npicture: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
