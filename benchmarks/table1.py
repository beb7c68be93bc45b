"""The paper's Table 1 for our models: errors of energy, Hamiltonian and orbital energies.

For each molecule and model one run of ``ase-srdft-train`` on given frames (and, with
--self-refine, one that also samples), evaluated on the last 60 frames of the molecule's file.
Writes table1.csv, table1.md and table1.png into the output directory: our numbers beside the
paper's, and the errors of the forces and how often the bracket holds, which it does not give.

    python benchmarks/table1.py --molecules ethanol malonaldehyde uracil --models fock --minutes 20

The same command goes on where it stopped.  The frames are looked for in the folder that
ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from campaign_options import campaign_parser, conduct, given_frames
from paper_numbers import SOURCE, TABLE_1, Published, published
from plots import COLOURS, GREYS, Bars, grouped_bars, panels, save
from results import (
    COMPARED,
    HEADER,
    Cell,
    Result,
    compared,
    notes_of,
    published_row,
    results_of,
    row_of,
    training_words,
    write_table,
)
from runs import TRAINING_FRAMES, Campaign, Run

#: Of runs that sample.
_LIGHTER = {
    "fock": "#7FB8D8",
    "coefficient": "#F3CF80",
    "qpt": "#80CEB9",
}


def runs_of(
    molecules: Sequence[str], models: Sequence[str], nframes: int, self_refine: bool
) -> list[Run]:
    """One for each molecule and model, and one more that samples where this is asked for."""
    runs = []
    for molecule in molecules:
        for model in models:
            runs.append(Run(molecule=molecule, model=model, nframes=nframes))
            if self_refine and model != "supervised":
                runs.append(Run(molecule=molecule, model=model, nframes=nframes, self_refine=True))
    return runs


def rows_of(molecules: Sequence[str], results: Sequence[Result]) -> list[list[Cell]]:
    """The paper's rows for each molecule, then ours."""
    rows: list[list[Cell]] = []
    for molecule in molecules:
        rows += [published_row(row) for row in published(molecule)]
        rows += [row_of(result) for result in results if result.run.molecule == molecule]
    return rows


def _paper_bars(row: Published, colour: str) -> Bars:
    words = training_words(row.nframes, row.self_refine)
    return Bars(label=f"paper: {words}", colour=colour, values=row.errors)


def _our_bars(result: Result) -> Bars:
    run = result.run
    colour = (_LIGHTER if run.self_refine else COLOURS)[run.model]
    words = training_words(result.nframes, run.self_refine)
    label = f"{run.model}: {words}"
    return Bars(label=label, colour=colour, values=compared(result.accuracy))


def report(campaign: Campaign, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    molecules = list(dict.fromkeys(run.molecule for run in runs))
    results = results_of(campaign, runs)
    notes = [*notes_of(campaign, runs, results), f"Paper: {SOURCE}."]
    rows = rows_of(molecules, results)
    write_table(
        campaign.output / "table1", "Errors beside the paper's Table 1", HEADER, rows, notes
    )
    figure, axes = panels(molecules, width=8.6, height=2.9)
    for axis, molecule in zip(axes, molecules, strict=True):
        paper = [_paper_bars(*each) for each in zip(published(molecule), GREYS, strict=False)]
        ours = [_our_bars(result) for result in results if result.run.molecule == molecule]
        grouped_bars(axis, COMPARED, [*paper, *ours])
        axis.set_ylabel("mean absolute error / µEh")
    heading = "Errors against the SCF at the same level of theory"
    save(figure, campaign.output / "table1.png", heading, notes, 3)


def main() -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    known = list(dict.fromkeys(row.molecule for row in TABLE_1))
    parser = campaign_parser(__doc__, "table1", known)
    parser.add_argument("--frames", type=given_frames, default=TRAINING_FRAMES, help="to train on")
    parser.add_argument("--self-refine", action="store_true", help="runs that also sample, too")
    options = parser.parse_args()
    runs = runs_of(options.molecules, options.models, options.frames, options.self_refine)
    return conduct(parser, options, runs, report)


if __name__ == "__main__":
    sys.exit(main())
