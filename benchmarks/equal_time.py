"""Which model learns most in the same wall time, from few frames and from many.

Every model gets the same minutes on one core and the same frames; for the supervised one the time
that its labels took, on one core, is taken from them.  Errors at the last 60 frames of the
molecule's file.  Writes equal_time.csv, equal_time.md and equal_time.png into the output
directory.

    python benchmarks/equal_time.py --frames 25 250 --minutes 30

The same command goes on where it stopped.  The frames are looked for in the folder that
ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from campaign_options import campaign_parser, conduct, given_frames
from plots import COLOURS, Bars, grouped_bars, panels, save
from results import COMPARED, HEADER, Result, compared, notes_of, results_of, row_of, write_table
from runs import MODELS, Campaign, Run


def runs_of(molecules: Sequence[str], models: Sequence[str], sizes: Sequence[int]) -> list[Run]:
    """For each molecule and number of frames all models."""
    return [
        Run(molecule=molecule, model=model, nframes=nframes)
        for molecule in molecules
        for nframes in sorted(set(sizes))
        for model in models
    ]


def report(campaign: Campaign, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    results = results_of(campaign, runs)
    notes = notes_of(campaign, runs, results)
    title = "Errors after equal wall time"
    rows = [row_of(result) for result in results]
    write_table(campaign.output / "equal_time", title, HEADER, rows, notes)
    cases = list(dict.fromkeys((run.molecule, run.nframes) for run in runs))
    titles = [f"{molecule}, {nframes} frames" for molecule, nframes in cases]
    figure, axes = panels(titles, width=7.6, height=2.9)
    for axis, case in zip(axes, cases, strict=True):
        own = [result for result in results if (result.run.molecule, result.run.nframes) == case]
        grouped_bars(axis, COMPARED, [_bars(result) for result in own])
        axis.set_ylabel("mean absolute error / µEh")
    save(figure, campaign.output / "equal_time.png", title, notes)


def _bars(result: Result) -> Bars:
    model = result.run.model
    return Bars(label=model, colour=COLOURS[model], values=compared(result.accuracy))


def main() -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = campaign_parser(__doc__, "equal-time", ["ethanol"], minutes=30.0)
    parser.set_defaults(models=list(MODELS))
    parser.add_argument("--frames", type=given_frames, nargs="+", default=[25, 250])
    options = parser.parse_args()
    runs = runs_of(options.molecules, options.models, options.frames)
    return conduct(parser, options, runs, report, labels_count=True)


if __name__ == "__main__":
    sys.exit(main())
