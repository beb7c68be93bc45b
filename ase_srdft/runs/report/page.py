"""The report of a training run: one HTML page that needs nothing but a browser.

No network, no script: plots are inline SVG with tooltips, and the page forbids itself to load
anything.  It can be written at any time of a run, also of one that has only begun.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from ase_srdft.common.atomic_files import replace_atomically
from ase_srdft.runs.report.figures import (
    Plot,
    bracket_plot,
    energy_plot,
    learning_rate_plot,
    micro_and_milli,
    temperature_plot,
)
from ase_srdft.runs.report.histogram import histogram_plot
from ase_srdft.runs.report.history import History, Validation, read_history
from ase_srdft.runs.report.style import STYLE
from ase_srdft.runs.report.summary import key_figures, settings
from ase_srdft.runs.report.svg import markup, number

__all__ = ["write_report"]

#: Molecules named in the title; the details name them all.
_MOST_NAMED = 4
_ENDS = {
    "steps done": "The run has done all that was asked",
    "time is up": "The run has used up its time",
    "target reached": "The run has reached its target",
    "interrupted": "The run was interrupted, and can be resumed",
}


def write_report(directory: Path) -> Path:
    """Make ``report.html`` from ``metrics.jsonl`` and ``config.yaml`` in a run's directory.

    Either file may be missing, and the run may be empty or cut off in the middle of a line: the
    page then says what there is.

    Returns:
        The path of the page, replaced in one go.
    """
    page = _page(read_history(directory))
    path = directory / "report.html"
    replace_atomically(path, lambda beside: _write(beside, page))
    return path


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _page(history: History) -> str:
    plots = (
        bracket_plot(history),
        energy_plot(history),
        histogram_plot(history),
        temperature_plot(history),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{markup(_names(history))}: training report</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>{_header(history)}</header>\n"
        f'<dl class="figures">{"".join(key_figures(history))}</dl>\n'
        f'<div class="plots">{"".join(map(_plot, plots))}{_READING}'
        f"{_plot(learning_rate_plot(history))}</div>\n"
        f"{settings(history)}\n{_footer(history)}</main>\n</body>\n</html>\n"
    )


def _names(history: History) -> str:
    """The molecules in words; the first few of many."""
    molecules = history.start.molecules if history.start else ()
    if not molecules:
        return "No molecule yet"
    names = ", ".join(molecules[:_MOST_NAMED])
    rest = len(molecules) - _MOST_NAMED
    return names + (f" and {rest} more" if rest > 0 else "")


def _formula(name: str) -> str:
    """A formula with its numbers set low."""
    return re.sub(r"(?<=[A-Za-z)])(\d+)", r"<sub>\1</sub>", markup(name))


def _header(history: History) -> str:
    start = history.start
    molecules = start.molecules if start else ()
    title = ", ".join(map(_formula, molecules[:_MOST_NAMED])) or _names(history)
    if len(molecules) > _MOST_NAMED:
        title += f' <span class="more">and {len(molecules) - _MOST_NAMED} more</span>'
    parts = [f"<h1>{title}</h1>"]
    if start:
        parts.append(f'<p class="level">{markup(start.level)}</p>')
    parts.append(f'<p class="state">{_state(history)}</p>')
    if history.nunreadable:
        lines = "1 line" if history.nunreadable == 1 else f"{history.nunreadable} lines"
        parts.append(
            f'<p class="warning">{lines} of metrics.jsonl could not be read (torn or incomplete) '
            "and left out.</p>"
        )
    return "".join(parts)


def _state(history: History) -> str:
    """What the run has come to, in a sentence or two."""
    last, certified = history.last, history.certified
    if last is None:
        return "This run has not logged anything yet: metrics.jsonl is missing or empty."
    if history.end is not None:
        told = _ENDS.get(history.end.reason, f"The run ended: {markup(history.end.reason)}")
        state = f"{told}, after {number(last.step)} steps."
    else:
        state = (
            f"The run is still going on, or was cut off; this is what it had logged "
            f"by step {number(last.step)}."
        )
    if history.end is not None and history.end.target_error_uEh > 0:
        reached = "was" if history.end.target_reached else "was not"
        state += f" Its target of {number(history.end.target_error_uEh)} µEh {reached} reached."
    if certified is None:
        return state + " It has not been validated yet, so there is no certified error."
    width, largest = history.certified_widths_uEh
    state += (
        " On geometries that it was not trained on, the saved model's energy is certified to lie "
        f"within <b>{micro_and_milli(width)}</b> of the converged SCF "
        "energy, on average and without a reference calculation"
    )
    worst = f", and within {number(largest)} µEh at each of them" if math.isfinite(largest) else ""
    return f"{state}{worst}.{_what_was_held_out(history.validation[-1])}"


def _what_was_held_out(last: Validation) -> str:
    """A sentence on the held-out geometries; nothing where an older version wrote it down not."""
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


def _plot(plot: Plot) -> str:
    if not plot.svg:
        return f'<section class="card"><h2>{plot.heading}</h2><p>{plot.caption}</p></section>'
    items = "".join(
        f'<li><i class="key {style}"></i><span>{_formula(name)}</span></li>'
        for style, name in plot.legend
    )
    legend = f'<ul class="legend">{items}</ul>' if items else ""
    return (
        f'<figure class="card"><h2>{plot.heading}</h2>{legend}{plot.svg}'
        f"<figcaption>{plot.caption}</figcaption></figure>"
    )


_READING = """
<section class="card reading"><h2>How to read this page</h2>
<p>For every geometry the model gives an electronic state, and with it two energies that enclose
the one a converged calculation (SCF) at the same level of theory would find:</p>
<p class="plainly"><i>E</i><sub>lower</sub> ≤ <i>E</i><sub>SCF</sub> ≤ <i>E</i></p>
<p>The upper one, <i>E</i>, is the model's own: by the variational principle it cannot be too low.
The lower one comes from one diagonalisation of the Fock matrix of the model's own density; it is
exact where the functional is convex in the density matrix, and in practice it has held for
semilocal and hybrid functionals alike. The width of the bracket is therefore an upper limit of
the error of the energy, known without a reference calculation.</p>
<p>It does not speak of the error of the level of theory itself, and the error of forces falls
only with the square root of the energy's. Numbers here are means over geometries: single ones can
be worse, and each answer of the calculator comes with its own bracket.</p></section>
"""


def _footer(history: History) -> str:
    version = f" {markup(history.start.version)}" if history.start else ""
    return (
        f"<footer>Made by ase_srdft{version} from metrics.jsonl and config.yaml in this directory. "
        "Point at a plot for its numbers.</footer>"
    )
