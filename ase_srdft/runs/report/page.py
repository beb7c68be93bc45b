"""The report of a training run: one HTML page that needs nothing but a browser.

No network, no script: plots are inline SVG, and the page forbids itself to load anything.  It can
be written at any time of a run, also of one that has only begun.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from ase_srdft.common.atomic_files import write_atomically
from ase_srdft.runs.report.drawing import colour_variables, inline_svg
from ase_srdft.runs.report.formula import with_subscripts
from ase_srdft.runs.report.held_out import held_out_tables
from ase_srdft.runs.report.history import History, Validation, read_history
from ase_srdft.runs.report.molecules import MoleculeSummary, molecule_svg, summarise_molecules
from ase_srdft.runs.report.page_template import PAGE, card
from ase_srdft.runs.report.plots import PLOTS, Plot
from ase_srdft.runs.report.words import (
    CHEMICAL_ACCURACY_UEH,
    duration,
    energy_in_words,
    markup,
    number,
)

__all__ = ["write_report"]

#: Molecules named in the title, drawn, and in the table.
_MOST_NAMED, _MOST_DRAWN, _MOST_ROWS = 4, 12, 200
#: Of a plot, in points: a column of the page on a phone, for the text to be as large there.
_PLOT_SIZE = (360.0, 264.0)
_ENDS = {
    "steps done": "The run has done all its steps",
    "time is up": "The run has used up its time",
    "target reached": "The run has reached its target",
    "interrupted": "The run was interrupted, and can go on",
}


def write_report(directory: Path) -> Path:
    """Make ``report.html`` from the files of a run's directory.

    ``metrics.jsonl``, ``config.yaml`` and ``samples.traj`` may be missing, and the run may be
    empty or cut off in the middle of a line: the page then says what there is.

    Returns:
        The path of the page, replaced in one go.
    """
    page = _page(read_history(directory), directory)
    path = directory / "report.html"
    write_atomically(path, page)
    return path


def _page(history: History, directory: Path) -> str:
    molecules = summarise_molecules(history, directory)
    names = [molecule.name for molecule in molecules]
    labels = [with_subscripts(name) for name in names]
    version = f" {history.start.version}" if history.start else ""
    return PAGE.substitute(
        light=colour_variables(dark=False),
        dark=colour_variables(dark=True),
        title=f"{markup(_title(names))}: training report",
        heading=markup(with_subscripts(_title(names))),
        data=_data(history),
        drawings=_drawings(molecules),
        state=_state(history),
        warning=_warning(history),
        figures="".join(_key_figures(history)),
        use=_use(history, directory, _title(names)),
        plots="".join(_plot(plot, history, labels) for plot in PLOTS),
        molecules=held_out_tables(history) + _molecule_table(molecules),
        settings=_settings(history),
        version=markup(version),
    )


def _title(names: Sequence[str]) -> str:
    """The molecules in words; the first few of many."""
    if not names:
        return "No molecule yet"
    rest = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _drawings(molecules: Sequence[MoleculeSummary]) -> str:
    figures = [
        f"<figure>{svg}<figcaption>{markup(with_subscripts(molecule.name))}</figcaption></figure>"
        for index, molecule in enumerate(molecules[:_MOST_DRAWN])
        if (svg := molecule_svg(index, molecule))
    ]
    return f'<div class="drawings">{"".join(figures)}</div>' if figures else ""


def _state(history: History) -> str:
    """What the run has come to, in a sentence or two."""
    last, certified = history.last, history.certified
    if last is None:
        return "This run has not logged anything yet: metrics.jsonl is missing or empty."
    if history.end is not None:
        reason = _ENDS.get(history.end.reason, f"The run ended: {markup(history.end.reason)}")
        state = f"{reason}, after {number(last.step)} training steps."
    else:
        state = (
            "The run is still going on, or was cut off; this is what it had logged "
            f"by training step {number(last.step)}."
        )
    if target := _target(history):
        reached = "was" if history.end and history.end.target_reached else "was not"
        state += f" Its {target} {reached} reached."
    if certified is None:
        return state + " It has not been validated yet, so there is no certified error."
    width, largest = history.certified_widths_uEh
    state += (
        " On geometries held out from training, the energy of the saved model is certified to lie "
        f"within <b>{energy_in_words(width)}</b>, on average, of the energy "
        "that a converged calculation (SCF) would give"
    )
    worst = f", and within {number(largest)} µEh at each of them" if math.isfinite(largest) else ""
    return f"{state}{worst}.{_what_was_held_out(history.validation[-1])}"


def _target(history: History) -> str:
    """What the last session was asked for, in words; empty where it was nothing."""
    end = history.end
    if end is None:
        return ""
    asked = ((end.target_error_uEh, ""), (end.target_worst_error_uEh, " for the worst molecule"))
    words = " and ".join(f"{number(uEh)} µEh{whose}" for uEh, whose in asked if uEh > 0)
    return f"target of {words}" if words else ""


def _what_was_held_out(last: Validation) -> str:
    """A sentence on the held-out geometries; nothing where an older version did not log it."""
    if last.nvalidation == 0:
        return ""
    ncopies = last.nvalidation - last.nframes - last.nsampled
    parts = [
        (last.nframes, "given frames"),
        (last.nsampled, "samples of the run's own dynamics"),
        (ncopies, "rattled copies of the given structures, near which dynamics starts"),
    ]
    words = " and ".join(f"{number(count)} {what}" for count, what in parts if count)
    return f" They are {words}" + (
        "; where dynamics goes on to, brackets may be wider." if ncopies else "."
    )


def _warning(history: History) -> str:
    if not history.nunreadable:
        return ""
    lines = "1 line" if history.nunreadable == 1 else f"{history.nunreadable} lines"
    return (
        f'<p class="warning">{lines} of metrics.jsonl could not be read (torn or incomplete) and '
        "left out.</p>"
    )


def _key_figures(history: History) -> Iterator[str]:
    """Cards: a number each, with what is worth knowing about it."""
    yield _certified_card(history)
    last, limit, rounds = history.last, history.setting("steps"), history.sampling
    steps, elapsed_s = (last.step, last.elapsed_s) if last else (0, 0.0)
    more = [f"of at most {number(limit)}"] if isinstance(limit, int) else []
    speed = f", {number(steps / elapsed_s, 2)} per second" if steps and elapsed_s > 0 else ""
    sessions = f"{history.nsessions} sessions" if history.nsessions > 1 else "one session"
    more.append(f"{duration(elapsed_s)} in {sessions}{speed}")
    if history.nrestarts:
        more.append(f"workers started again: {number(history.nrestarts)}")
    yield card("Training steps", number(steps), *more)
    more = [f"in {number(len(rounds))} rounds of dynamics"] if rounds else ["no dynamics yet"]
    if any(stale := [record.staleness for record in rounds]):
        mean = number(sum(stale) / len(stale))
        more.append(f"weights {mean} steps old, {number(max(stale))} at most")
    if history.resets:
        more.append(f"reset or refused: {number(history.resets.total())}")
    yield card("Sampled geometries", number(rounds[-1].nsamples if rounds else 0), *more)


def _certified_card(history: History) -> str:
    certified = history.certified
    if certified is None:
        return card("Certified error", "none yet", "not validated")
    width, largest = history.certified_widths_uEh
    more = [f"microhartree, mean of the held-out geometries at step {number(certified.step)}"]
    if math.isfinite(largest):
        more.append(f"<b>{number(largest)} µEh</b> at most, on one of them")
    if history.end is not None and (target := _target(history)):
        mark, reached = ("✓", "reached") if history.end.target_reached else ("✗", "not reached")
        colour = "good" if history.end.target_reached else "open"
        more.append(f'<span class="{colour}">{mark} {target} {reached}</span>')
    within = width < CHEMICAL_ACCURACY_UEH
    verdict = "✓ within chemical accuracy" if within else "✗ not yet chemical accuracy"
    more.append(f'<span class="{"good" if within else "open"}">{verdict} (1 kcal/mol)</span>')
    return card("Certified error", f"{number(width)} µEh", *more)


def _use(history: History, directory: Path, title: str) -> str:
    """Three lines of Python that use the model, if it is there, and the command that trains on."""
    model, config = directory / "model.srdft", directory / "config.yaml"
    python = (
        "from ase_srdft import SRDFTCalculator\n"
        f"atoms.calc = SRDFTCalculator({str(model)!r})  # atoms: ase.Atoms, {title}\n"
        "print(atoms.get_potential_energy(), atoms.calc.energy_bracket)  # eV"
    )
    command = (
        f"ase-srdft-train STRUCTURES --config {shlex.quote(str(config))} {_longer(history)}"
        f"-o {shlex.quote(str(directory))}"
    )
    use = f"<h2>Use the model</h2><pre>{markup(python)}</pre>" if model.exists() else ""
    return (
        f'<section class="card">{use}<h2>Train on from here</h2><pre>{markup(command)}</pre>'
        "<p>With the same structures as before (and the same <code>--data</code> or "
        "<code>--labels</code>, if any).</p></section>"
    )


def _longer(history: History) -> str:
    """The flag that lets a run go on past what ended it: twice as far as it came."""
    end, certified = history.end, history.certified
    if end is not None and end.reason == "steps done":
        return f"--steps {2 * end.step} "
    if end is not None and end.reason == "time is up":
        return f"--minutes {max(1, round(end.elapsed_s / 30.0))} "
    if end is not None and end.reason == "target reached" and certified is not None:
        return f"--target-error {history.certified_widths_uEh[0] / 2.0:.2g} "
    return ""


def _plot(plot: Plot, history: History, names: Sequence[str]) -> str:
    svg, (caption, drawn) = inline_svg(
        plot.name, plot.heading, _PLOT_SIZE, lambda figure: plot.draw_on(figure, history, names)
    )
    drawing = svg if drawn else ""
    return (
        f'<figure class="card"><h2>{plot.heading}</h2>{drawing}'
        f"<figcaption>{markup(caption)}</figcaption></figure>"
    )


def _molecule_table(molecules: Sequence[MoleculeSummary]) -> str:
    rows = "".join(map(_molecule_row, molecules[:_MOST_ROWS]))
    if not any(molecule.nsamples for molecule in molecules):
        return ""
    rest = len(molecules) - _MOST_ROWS
    more = f"<p>{number(rest)} more are not shown.</p>" if rest > 0 else ""
    return (
        '<section class="card"><h2>Molecule by molecule</h2><div class="wide"><table>'
        "<tr><th>molecule</th><th>sampled geometries</th><th>lowest energy, hartree (Eh)</th>"
        "<th>certified error, mean, microhartree (µEh)</th><th>maximum (µEh)</th></tr>"
        f"{rows}</table></div>{more}<p>Mean and maximum are over the samples of the last quarter "
        "of the rounds, each by the model that sampled it.</p></section>"
    )


def _molecule_row(molecule: MoleculeSummary) -> str:
    widths, energy = molecule.widths_uEh, molecule.energy_hartree
    values = [
        number(molecule.nsamples),
        f"{energy:.5f}".replace("-", "−") if math.isfinite(energy) else "–",
        number(sum(widths) / len(widths)) if widths else "–",
        number(max(widths)) if widths else "–",
    ]
    cells = "".join(f"<td>{value}</td>" for value in values)
    return f"<tr><th>{markup(with_subscripts(molecule.name))}</th>{cells}</tr>"


def _settings(history: History) -> str:
    """Everything that was chosen, as it is in ``config.yaml``."""
    if not history.settings:
        return "<p>There is no readable config.yaml beside metrics.jsonl.</p>"
    text = yaml.safe_dump(history.settings, sort_keys=False, allow_unicode=True)
    return f"<pre>{markup(text)}</pre>"


def _data(history: History) -> str:
    """What was trained, on what."""
    start = history.start
    if start is None:
        return ""
    return (
        f"{markup(start.level)}. The model has {number(start.nparameters)} parameters; "
        f"{number(start.nframes) if start.nframes else 'no'} frames were given to train on."
    )
