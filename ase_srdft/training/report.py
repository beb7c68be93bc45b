"""The report of a training run: one HTML page that needs nothing but a browser.

No network, no script: plots are inline SVG with tooltips, and the page forbids itself to load
anything.  It can be written at any time of a run, also of one that has only begun.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ase_srdft.files import replace_atomically
from ase_srdft.training.report_figures import (
    CHEMICAL_ACCURACY_UEH,
    Plot,
    bracket_plot,
    energy_plot,
    learning_rate_plot,
    micro_and_milli,
    temperature_plot,
)
from ase_srdft.training.report_histogram import histogram_plot
from ase_srdft.training.report_history import History, read_history
from ase_srdft.training.report_style import STYLE
from ase_srdft.training.svg import markup, number
from ase_srdft.units import EV_PER_HARTREE, MICROHARTREE

__all__ = ["write_report"]

#: Molecules named in the title; the details name them all.
_MOST_NAMED = 4


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
        learning_rate_plot(history),
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{markup(_names(history))}: training report</title>\n"
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<header>{_header(history)}</header>\n"
        f'<dl class="figures">{"".join(_key_figures(history))}</dl>\n'
        f'<div class="plots">{"".join(map(_plot, plots))}{_READING}</div>\n'
        f"{_details(history)}\n{_footer(history)}</main>\n</body>\n</html>\n"
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
        state = f"The run ended after {number(last.step)} steps: {markup(history.end.reason)}."
    else:
        state = (
            f"The run is still going on, or was cut off; this is what it had logged "
            f"by step {number(last.step)}."
        )
    if certified is None:
        return state + " It has not been validated yet, so there is no certified error."
    return state + (
        " On geometries that it was not trained on, the saved model's energy is certified to lie "
        f"within <b>{micro_and_milli(certified.bracket_width_uEh)}</b> of the converged SCF "
        "energy, on average and without a reference calculation."
    )


def _card(name: str, value: str, more: str) -> str:
    return (
        f'<div class="card"><dt>{name}</dt><dd class="value">{value}</dd>'
        f'<dd class="more">{more}</dd></div>'
    )


def _key_figures(history: History) -> Iterator[str]:
    yield _certified_card(history)
    last = history.last
    limit = history.setting("steps")
    more = f"of at most {number(limit)}" if isinstance(limit, int) else "no limit known"
    if history.training:
        more += f"; {number(history.training[-1].steps_per_s)} per second at last"
    yield _card("Training steps", number(last.step if last else 0), more)
    sampling = history.sampling
    if sampling:
        kept = sum(r.acceptance for r in sampling) / len(sampling)
        more = f"in {number(len(sampling))} rounds; {number(100.0 * kept)} % accepted"
    else:
        more = "no dynamics yet"
        if history.setting("self_refine") is False:
            more = "given frames alone"
    yield _card("Sampled geometries", number(sampling[-1].nsamples if sampling else 0), more)
    sessions = f"in {history.nsessions} sessions" if history.nsessions > 1 else "in one session"
    yield _card("Wall time", _duration(last.elapsed_s if last else 0.0), sessions if last else "")
    resets = history.resets
    reasons = "<br>".join(f"{number(n)} {markup(why)}" for why, n in resets.most_common())
    yield _card("Walkers reset", number(resets.total()), reasons or "none left its molecule")


def _certified_card(history: History) -> str:
    certified = history.certified
    if certified is None:
        return _card("Certified error", "none yet", "not validated")
    width = certified.bracket_width_uEh
    within = width < CHEMICAL_ACCURACY_UEH
    verdict = (
        '<span class="good">✓ within chemical accuracy</span>'
        if within
        else '<span class="open">✗ not yet chemical accuracy</span>'
    )
    meV = width / MICROHARTREE * EV_PER_HARTREE * 1e3
    return _card(
        "Certified error",
        f"{number(width)} µEh",
        f"{number(meV)} meV, at step {number(certified.step)}<br>{verdict}",
    )


def _duration(seconds: float) -> str:
    """Seconds as people say them: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _plot(plot: Plot) -> str:
    if not plot.svg:
        return f'<section class="card"><h2>{plot.heading}</h2><p>{plot.caption}</p></section>'
    items = "".join(
        f'<li><i class="key {style}"></i>{markup(name)}</li>' for style, name in plot.legend
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
the error of the energy, known without a reference calculation. It does not speak of the error of
the level of theory itself, and the forces' error is larger in proportion. Figures here are means
over geometries: single ones can be worse, and each answer of the calculator comes with its own
bracket.</p></section>
"""


def _details(history: History) -> str:
    rows = [
        f"<tr><th>{markup(name)}</th><td>{markup(value)}</td></tr>"
        for name, value in _facts(history)
    ]
    groups = {k: v for k, v in history.settings.items() if isinstance(v, dict)}
    plain = {k: v for k, v in history.settings.items() if k not in groups}
    for name, values in (({"run": plain} if plain else {}) | groups).items():
        rows.append(f'<tr class="group"><th colspan="2">{markup(name)}</th></tr>')
        rows += [
            f"<tr><th>{markup(key)}</th><td>{markup(_setting(value))}</td></tr>"
            for key, value in values.items()
        ]
    if not history.settings:
        rows.append('<tr><td colspan="2">There is no readable config.yaml beside it.</td></tr>')
    return (
        '<details class="card"><summary>All settings</summary>'
        f"<table>{''.join(rows)}</table></details>"
    )


def _facts(history: History) -> Iterator[tuple[str, str]]:
    start = history.start
    if start is None:
        return
    yield "molecules", ", ".join(start.molecules)
    yield "level of theory", start.level
    yield "parameters of the model", number(start.nparameters)
    yield "given frames to train on", number(start.nframes) if start.nframes else "none"
    yield "held-out geometries", number(start.nvalidation)


def _setting(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_setting(own)}" for key, own in value.items()) or "defaults"
    return str(value)


def _footer(history: History) -> str:
    version = f" {markup(history.start.version)}" if history.start else ""
    return (
        f"<footer>Made by ase_srdft{version} from metrics.jsonl and config.yaml in this directory. "
        "Point at a plot for its numbers.</footer>"
    )
