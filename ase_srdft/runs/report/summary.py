"""The key figures of a report, and the settings of its run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ase_srdft.common.units import EV_PER_HARTREE, MICROHARTREE
from ase_srdft.runs.report.figures import CHEMICAL_ACCURACY_UEH
from ase_srdft.runs.report.history import History
from ase_srdft.runs.report.svg import markup, number

__all__ = ["key_figures", "settings"]


def key_figures(history: History) -> Iterator[str]:
    """Cards: a number each, with what is worth knowing about it."""
    yield _certified_card(history)
    last = history.last
    limit = history.setting("steps")
    more = [f"of at most {number(limit)}"] if isinstance(limit, int) else []
    if last and last.step and last.elapsed_s > 0:
        more.append(f"{number(last.step / last.elapsed_s, 2)} per second")
    yield _card("Training steps", number(last.step if last else 0), "<br>".join(more))
    yield _sampling_card(history)
    sessions = f"in {history.nsessions} sessions" if history.nsessions > 1 else "in one session"
    if history.nrestarts:
        sessions += f"<br>workers started again: {number(history.nrestarts)}"
    yield _card("Wall time", _duration(last.elapsed_s if last else 0.0), sessions if last else "")
    yield _resets_card(history)


def _card(name: str, value: str, more: str) -> str:
    return (
        f'<div class="card"><dt>{name}</dt><dd class="value">{value}</dd>'
        f'<dd class="more">{more}</dd></div>'
    )


def _sampling_card(history: History) -> str:
    rounds = history.sampling
    if not rounds:
        more = (
            "given frames alone" if history.setting("self_refine") is False else "no dynamics yet"
        )
        return _card("Sampled geometries", "0", more)
    kept = sum(record.acceptance for record in rounds) / len(rounds)
    more = f"in {number(len(rounds))} rounds<br>{number(100.0 * kept)} % accepted"
    stale = [record.staleness for record in rounds]
    if any(stale):
        mean = sum(stale) / len(stale)
        more += f"<br>weights {number(mean)} steps old, {number(max(stale))} at most"
    return _card("Sampled geometries", number(rounds[-1].nsamples), more)


def _resets_card(history: History) -> str:
    resets = history.resets
    reasons = "<br>".join(f"{markup(why)}: {number(n)}" for why, n in resets.most_common())
    none = "none left its molecule" if history.sampling else "no dynamics"
    return _card("Reset or refused", number(resets.total()), reasons or none)


def _certified_card(history: History) -> str:
    certified = history.certified
    if certified is None:
        return _card("Certified error", "none yet", "not validated")
    width, largest = history.certified_widths_uEh
    within = width < CHEMICAL_ACCURACY_UEH
    verdict = (
        '<span class="good">✓ within chemical accuracy</span>'
        if within
        else '<span class="open">✗ not yet chemical accuracy</span>'
    )
    meV = width / MICROHARTREE * EV_PER_HARTREE * 1e3
    more = [f"{number(meV)} meV, at step {number(certified.step)}"]
    if math.isfinite(largest):
        more.append(f"at most {number(largest)} µEh")
    if history.end is not None and math.isfinite(history.end.target_error_uEh):
        target = f"target of {number(history.end.target_error_uEh)} µEh"
        reached = history.end.target_reached
        more.append(
            f'<span class="good">✓ {target} reached</span>'
            if reached
            else f'<span class="open">✗ {target} not reached</span>'
        )
    return _card("Certified error", f"{number(width)} µEh", "<br>".join([*more, verdict]))


def _duration(seconds: float) -> str:
    """Seconds as people say them: two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def settings(history: History) -> str:
    """Everything that was chosen, as tables that open on demand."""
    chosen = history.settings
    groups = {str(k): v for k, v in chosen.items() if isinstance(v, dict)}
    plain = {str(k): v for k, v in chosen.items() if str(k) not in groups}
    tables = [_table("this run", dict(_facts(history))), _table("training", plain)]
    tables += [_table(name, values) for name, values in groups.items()]
    if not chosen:
        tables.append("<p>There is no readable config.yaml beside metrics.jsonl.</p>")
    return (
        '<details class="card"><summary>All settings</summary>'
        f'<div class="settings">{"".join(tables)}</div></details>'
    )


def _table(name: str, values: dict[str, Any]) -> str:
    if not values:
        return ""
    rows = "".join(
        f"<tr><th>{markup(key)}</th><td>{markup(_setting(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<table><caption>{markup(name)}</caption>{rows}</table>"


def _facts(history: History) -> Iterator[tuple[str, str]]:
    start = history.start
    if start is None:
        return
    yield "molecules", ", ".join(start.molecules)
    yield "level of theory", start.level
    yield "parameters of the model", number(start.nparameters)
    yield "given frames to train on", number(start.nframes) if start.nframes else "none"
    if start.nvalidation:
        yield "held-out geometries", number(start.nvalidation)


def _setting(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_setting(own)}" for key, own in value.items()) or "defaults"
    return str(value)
