"""What finished runs have measured, and tables of it: CSV, Markdown, and printed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from campaign import has_no_time, is_evaluated, is_trained
from paper_numbers import PARAMETERS, STEPS, Published
from runs import Campaign, Run, label_minutes

from ase_srdft.reference.accuracy import Accuracy
from ase_srdft.runs.report.history import read_history

#: What a cell of a table may hold.
Cell = str | float | int | None

#: The errors that the paper has, too.
COMPARED = ("E", "H", "ε occupied", "HOMO", "LUMO", "gap")
HEADER = (
    "molecule",
    "model",
    "trained on",
    "own samples",
    "parameters",
    "steps",
    "training/min",
    "labels/min",
    *(f"{name}/µEh" for name in COMPARED),
    "forces/(meV/Å)",
    "SCF energy in the bracket/%",
    "bracket width/µEh",
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run and what it measured.

    Attributes:
        run: which.
        accuracy: at the held-out frames.
        nframes: given frames that were trained on, as the run itself counted them.
        nparameters: of the model.
        steps: training steps.
        nsamples: of its own that it trained on.
        minutes: of training, wall clock.
        label_minutes: of making its labels, on one core.
        machine: that it ran on.
    """

    run: Run
    accuracy: Accuracy
    nframes: int
    nparameters: int
    steps: int
    nsamples: int
    minutes: float
    label_minutes: float
    machine: str


def results_of(campaign: Campaign, runs: Iterable[Run]) -> list[Result]:
    """Those of the runs that are trained and evaluated."""
    done = (run for run in runs if is_evaluated(campaign, run))
    return [_result(campaign, run) for run in done if is_trained(campaign.directory(run))]


def _result(campaign: Campaign, run: Run) -> Result:
    directory = campaign.directory(run)
    history = read_history(directory)
    start, end = history.start, history.end
    if start is None or end is None:
        raise ValueError(f"{directory}/metrics.jsonl lacks the start or the end of a trained run")
    kept = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    return Result(
        run=run,
        accuracy=Accuracy(**json.loads(campaign.evaluation(run).read_text(encoding="utf-8"))),
        nframes=start.nframes if run.nframes else 0,
        nparameters=start.nparameters,
        steps=end.step,
        nsamples=history.sampling[-1].nsamples if history.sampling else 0,
        minutes=end.elapsed_s / 60.0,
        label_minutes=label_minutes(campaign, run),
        machine=kept["machine"],
    )


def certified_curve(directory: Path) -> list[tuple[float, float]]:
    """Minutes of training and the mean bracket width at held-out geometries (microhartree)."""
    validations = read_history(directory).validation
    return [(each.elapsed_s / 60.0, each.bracket_width_uEh) for each in validations]


def training_words(nframes: int, self_refine: bool) -> str:
    """How a model was trained, for tables and legends."""
    given = f"{nframes:,} frames" if nframes else "one structure"
    return f"self-refining, {given}" if self_refine else given


def compared(accuracy: Accuracy) -> tuple[float | None, ...]:
    """The errors of `COMPARED` (microhartree)."""
    return (
        accuracy.energy_mae_uEh,
        accuracy.hamiltonian_mae_uEh,
        accuracy.orbital_energy_mae_uEh,
        accuracy.homo_mae_uEh,
        accuracy.lumo_mae_uEh,
        accuracy.gap_mae_uEh,
    )


def row_of(result: Result) -> list[Cell]:
    """The columns of `HEADER`."""
    run, accuracy = result.run, result.accuracy
    return [
        run.molecule,
        run.model,
        training_words(result.nframes, run.self_refine),
        result.nsamples if run.self_refine else None,
        result.nparameters,
        result.steps,
        result.minutes,
        result.label_minutes if run.supervised else None,
        *compared(accuracy),
        accuracy.forces_mae_meV_per_A,
        100.0 * accuracy.bracket_coverage,
        accuracy.bracket_width_mean_uEh,
    ]


def published_row(row: Published) -> list[Cell]:
    """The same of the paper, which has no forces and no bracket."""
    words = training_words(row.nframes, row.self_refine)
    about = [row.molecule, "paper", words, None, PARAMETERS, STEPS, None, None]
    return [*about, *row.errors, None, None, None]


def shown(cell: Cell) -> str:
    """A cell in Markdown: three significant digits at least, a dash for what is not there."""
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int):
        return f"{cell:,}"
    if abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A Markdown table; text is left-aligned in its source, numbers are as `shown`."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for row in rows:
        lines.append("| " + " | ".join(shown(cell) for cell in row) + " |")
    return "\n".join(lines)


def write_table(
    stem: Path,
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    notes: Sequence[str],
) -> None:
    """Write ``stem.csv`` (all digits) and ``stem.md`` (title, table, notes), and print the latter.

    Args:
        stem: path without suffix.
        title: a line above the table.
        header: one word or two for each column.
        rows: as many cells each.
        notes: lines below the table: machine, settings, sources.
    """
    with stem.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    text = "\n\n".join([f"## {title}", markdown(header, rows), *notes]) + "\n"
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"\n{text}")


def notes_of(campaign: Campaign, runs: Sequence[Run], results: Sequence[Result]) -> list[str]:
    """Budget, machine and wall time, and what is missing."""
    minutes = f"{campaign.minutes:g} minutes" if campaign.minutes is not None else None
    steps = f"{campaign.steps:,} steps" if campaign.steps is not None else None
    budget = " and at most ".join(part for part in (minutes, steps) if part)
    notes = [
        f"Each run {budget} on one core, {campaign.jobs} at a time, seed {campaign.seed}"
        + (f", {' '.join(campaign.train_arguments)}" if campaign.train_arguments else "")
        + f"; mean absolute errors at the last {campaign.nevaluate} frames."
    ]
    if results:
        machines = "; ".join(dict.fromkeys(result.machine for result in results))
        total = sum(result.minutes for result in results)
        notes.append(f"Machine: {machines}. Training, all runs together: {total:.1f} min.")
    finished = {result.run for result in results}
    missing = [run for run in runs if run not in finished]
    late = [run.name for run in missing if has_no_time(campaign, run)]
    if late:
        notes.append(f"No time left to train after the labels: {', '.join(late)}.")
    others = [run.name for run in missing if run.name not in late]
    if others:
        notes.append(f"Not finished: {', '.join(others)}.")
    return notes
