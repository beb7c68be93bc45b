"""What finished runs have measured, beside the paper's numbers, and Markdown tables of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paper_numbers import PARAMETERS, SOURCE, STEPS, TABLE_1
from runs import HELD_OUT, Run, Settings, label_minutes

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
class Row:
    """A line of a table, and what of it is drawn: a run of ours, or one of the paper's.

    Attributes:
        molecule: its name.
        model: one of `runs.MODELS`, or ``paper``.
        nframes: given frames that were trained on; 0 for one structure.
        self_refine: whether the model's own samples were trained on, too.
        errors: those of `COMPARED`, mean and absolute (microhartree).
        nparameters: of the model.
        steps: training steps.
        accuracy: all that was evaluated; None for the paper.
        nsamples: of its own that it trained on; None if there are none.
        minutes: of training, wall clock; 0 for the paper.
        label_minutes: of making its labels, on one core; 0 without labels.
        certified: minutes of training and mean bracket width (microhartree) at each validation.
    """

    molecule: str
    model: str
    nframes: int
    self_refine: bool
    errors: tuple[float | None, ...]
    nparameters: int = PARAMETERS
    steps: int = STEPS
    accuracy: Accuracy | None = None
    nsamples: int | None = None
    minutes: float = 0.0
    label_minutes: float = 0.0
    certified: tuple[tuple[float, float], ...] = ()

    @property
    def training(self) -> str:
        """What it was trained on, in words."""
        given = f"{self.nframes:,} frames" if self.nframes else "one structure"
        return f"self-refining, {given}" if self.self_refine else given

    @property
    def cells(self) -> list[Cell]:
        """The columns of `HEADER`."""
        about = [self.molecule, self.model, self.training, self.nsamples, self.nparameters]
        cost = [self.steps, self.minutes or None, self.label_minutes or None]
        own: list[Cell] = [None, None, None]
        if (accuracy := self.accuracy) is not None:
            own = [accuracy.forces_mae_meV_per_A, 100.0 * accuracy.bracket_coverage]
            own += [accuracy.bracket_width_mean_uEh]
        return [*about, *cost, *self.errors, *own]


def published(molecule: str) -> list[Row]:
    """The paper's rows for a molecule; none for one that is not in it."""
    return [
        Row(molecule=name, model="paper", nframes=frames, self_refine=self_refine, errors=errors)
        for name, frames, self_refine, errors in TABLE_1
        if name == molecule
    ]


def finished(settings: Settings, runs: Iterable[Run]) -> list[Row]:
    """Rows of those of the runs that are trained and evaluated."""
    return [_row(settings, run) for run in runs if settings.evaluation(run).is_file()]


def _row(settings: Settings, run: Run) -> Row:
    folder = settings.folder(run)
    plain = json.loads(settings.evaluation(run).read_text(encoding="utf-8"))
    if "frames_asked" in plain:
        raise ValueError(f"{settings.evaluation(run)} lacks frames: remove it and run again")
    found = Accuracy(**plain)
    orbitals = (found.orbital_energy_mae_uEh, found.homo_mae_uEh, found.lumo_mae_uEh)
    history = read_history(folder)
    start, end = history.start, history.end
    if start is None or end is None:
        raise ValueError(f"{folder}/metrics.jsonl lacks the start or the end of a finished run")
    return Row(
        molecule=run.molecule,
        model=run.model,
        nframes=start.nframes if run.nframes else 0,
        self_refine=run.self_refine,
        errors=(found.energy_mae_uEh, found.hamiltonian_mae_uEh, *orbitals, found.gap_mae_uEh),
        nparameters=start.nparameters,
        steps=end.step,
        accuracy=found,
        nsamples=history.sampling[-1].nsamples if history.sampling else None,
        minutes=end.elapsed_s / 60.0,
        label_minutes=label_minutes(settings, run),
        certified=tuple((v.elapsed_s / 60.0, v.bracket_width_uEh) for v in history.validation),
    )


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


def write_table(
    settings: Settings, name: str, header: Sequence[str], rows: Iterable[Sequence[Cell]], note: str
) -> None:
    """Write a table and a note below it into the output folder, and print it."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(map(shown, row)) + " |" for row in rows]
    text = "\n".join(lines) + f"\n\n{note}\n"
    (settings.output / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"\n{text}")


def tabulate(
    settings: Settings, name: str, runs: Sequence[Run], paper: bool = True
) -> dict[str, list[Row]]:
    """Write the table of what is finished; returns its rows by molecule, the paper's first."""
    ours = finished(settings, runs)
    rows = {run.molecule: published(run.molecule) if paper else [] for run in runs}
    for row in ours:
        rows[row.molecule].append(row)
    note = f"Mean absolute errors at the last {HELD_OUT} frames. Paper: {SOURCE}."
    if missing := [run.name for run in runs if not settings.evaluation(run).is_file()]:
        note += f" Not finished: {', '.join(missing)}."
    cells = [row.cells for own in rows.values() for row in own]
    write_table(settings, name, HEADER, cells, note)
    return rows
