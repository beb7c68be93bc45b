"""The paper's Fig. 2 for our models: error against the number of given frames.

For each molecule, model and number of frames two runs with the same budget: on the given frames
alone, and on the same frames and the model's own samples (self-refining).  Errors of the energy
and of the Hamiltonian at the last 60 frames of the molecule's file.  Writes figure2.csv,
figure2.md and figure2.png into the output directory, the paper's numbers (its Table 1) beside
ours.

    python benchmarks/figure2.py --molecules ethanol --models fock --frames 25 100 340 --minutes 20

The same command goes on where it stopped.  The frames are looked for in the folder that
ASE_SRDFT_DATA names.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from campaign_options import campaign_parser, conduct, given_frames
from paper_numbers import SOURCE, Published, published
from plots import COLOURS, GREYS, panels, plain_ticks, save, say_nothing_yet
from results import HEADER, Result, notes_of, results_of, row_of, write_table
from runs import Campaign, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Solid lines sample, dashed ones do not.
_STYLES = {True: ("-", "o", "self-refining"), False: ("--", "s", "frames alone")}


def runs_of(molecules: Sequence[str], models: Sequence[str], sizes: Sequence[int]) -> list[Run]:
    """For each size with and without self-refining; supervised without."""
    return [
        Run(molecule=molecule, model=model, nframes=nframes, self_refine=self_refine)
        for molecule in molecules
        for model in models
        for nframes in sorted(set(sizes))
        for self_refine in (False, True)
        if not (self_refine and model == "supervised")
    ]


def _draw(
    axis: Axes,
    results: Sequence[Result],
    paper: Sequence[Published],
    ours: Callable[[Result], float],
    theirs: Callable[[Published], float],
) -> None:
    """Lines of our models and points of the paper."""
    if not results:
        say_nothing_yet(axis)
        return
    for model, colour in COLOURS.items():
        own = [result for result in results if result.run.model == model]
        for self_refine, (line, marker, words) in _STYLES.items():
            points = [(r.nframes, ours(r)) for r in own if r.run.self_refine == self_refine]
            if points:
                axis.plot(
                    *zip(*sorted(points), strict=True),
                    line,
                    marker=marker,
                    c=colour,
                    label=f"{model}, {words}",
                )
    for self_refine, (line, marker, words) in _STYLES.items():
        points = [(row.nframes, theirs(row)) for row in paper if row.self_refine == self_refine]
        if points:
            axis.plot(
                *zip(*points, strict=True), line, marker=marker, c=GREYS[1], label=f"paper, {words}"
            )
    axis.set_xscale("log")
    axis.set_yscale("log")
    plain_ticks(axis.xaxis)
    plain_ticks(axis.yaxis)
    axis.set_xlabel("given frames")


def report(campaign: Campaign, runs: Sequence[Run]) -> None:
    """Table and figure of what there is."""
    molecules = list(dict.fromkeys(run.molecule for run in runs))
    results = results_of(campaign, runs)
    notes = [*notes_of(campaign, runs, results), f"Paper: {SOURCE}."]
    rows = [row_of(result) for result in results]
    title = "Errors against the number of given frames"
    write_table(campaign.output / "figure2", title, HEADER, rows, notes)
    titles = [f"{molecule}: {what}" for molecule in molecules for what in ("energy", "Hamiltonian")]
    figure, axes = panels(titles, width=3.8, height=3.0, columns=2)
    for index, molecule in enumerate(molecules):
        own = [result for result in results if result.run.molecule == molecule]
        paper = published(molecule)
        energy, hamiltonian = axes[2 * index : 2 * index + 2]
        _draw(energy, own, paper, lambda r: r.accuracy.energy_mae_uEh, lambda p: p.energy)
        _draw(
            hamiltonian,
            own,
            paper,
            lambda r: r.accuracy.hamiltonian_mae_uEh,
            lambda p: p.hamiltonian,
        )
        energy.set_ylabel("mean absolute error / µEh")
    save(figure, campaign.output / "figure2.png", title, notes, 3)


def main() -> int:
    """Run what is missing, then table and figure; returns the exit code."""
    parser = campaign_parser(__doc__, "figure2", ["ethanol"])
    parser.add_argument("--frames", type=given_frames, nargs="+", default=[25, 100, 340])
    options = parser.parse_args()
    runs = runs_of(options.molecules, options.models, options.frames)
    return conduct(parser, options, runs, report)


if __name__ == "__main__":
    sys.exit(main())
