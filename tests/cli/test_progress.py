"""What is shown of a run: no number that is none, and what matters most on a narrow terminal."""

import io
import math
import os
import pty
import re
import select
import sys
from collections import Counter

import pytest
from rich.console import Console

from ase_srdft.cli.progress import Status, progress_display
from ase_srdft.cli.progress_line import Part, ProgressLine, duration
from ase_srdft.sampling.sample import SampleBatch
from ase_srdft.training.events import Event, StepRecord, Validation


def event(step, elapsed, progress=0.1, nsamples=0, **what):
    return Event(step=step, elapsed=elapsed, progress=progress, nsamples=nsamples, **what)


def trained(width=2e-5, energy=-76.3, hamiltonian=None):
    return StepRecord(
        energy=energy,
        bracket_width=width,
        gradient_norm=1.0,
        learning_rate=1e-3,
        widths=(width,),
        hamiltonian_error=hamiltonian,
    )


def validated(width=1.3e-5):
    return Validation(energy=-76.3, bracket_width=width, best=True)


def sampled(acceptance):
    return SampleBatch(samples=[], acceptance=acceptance, temperature_K=300.0, resets=Counter())


def status(step=0, elapsed=0.0, steps=1000, minutes=None):
    return Status(steps, minutes, step, elapsed)


def busy():
    """A run that has everything to show."""
    it = status()
    for step in range(1, 101):
        it.update(event(step, 0.1 * step, step / 1000, 64, training=trained()))
    it.update(event(100, 10.0, 0.1, 64, validation=validated()))
    it.update(event(100, 10.0, 0.1, 64, sampling=sampled(0.82)))
    return it


def shown(line, columns, **settings):
    """The line as a terminal of so many columns shows it."""
    out = io.StringIO()
    Console(file=out, width=columns, force_terminal=True, **settings).print(line, end="")
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def line_of(it, elapsed=754.0):
    return ProgressLine(
        share=it.progress, elapsed=elapsed, left=it.seconds_left, parts=tuple(it.parts())
    )


def test_everything_on_a_wide_terminal():
    assert shown(line_of(busy()), 160).split("  ") == [
        "━" * 20,
        *(" 10 %", "12:34", "1:30 left", "step 100", "E -76.30000 Eh"),
        *("bracket 20 µEh (held out 13 µEh)", "64 samples (82 % accepted)", "10.0 steps/s"),
    ]


@pytest.mark.parametrize("columns", range(16, 161))
def test_bar_percentage_and_time_are_the_last_to_give_way(columns):
    text = shown(line_of(busy()), columns)
    assert "\n" not in text
    assert len(text) <= columns
    assert " 10 %" in text
    assert "1:30 left" in text
    assert ("━" in text) == (columns >= 22)
    assert ("12:34" in text) == (columns >= 29)
    assert ("held out 13 µEh" in text) == (columns >= 52)
    assert ("bracket 20 µEh (held out 13 µEh)" in text) == (columns >= 69)
    assert ("step 100" in text) == (columns in (*range(45, 52), *range(62, 69), *range(79, 161)))


@pytest.mark.parametrize("columns", [1, 3, 8, 15])
def test_a_terminal_without_room(columns):
    text = shown(line_of(busy()), columns)
    assert 0 < len(text) <= columns
    assert "\n" not in text


def test_an_encoding_without_lines():
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Console(file=out, width=40, force_terminal=True).print(
        ProgressLine(share=0.5, elapsed=1.0, left=None, parts=())
    )
    out.flush()
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.buffer.getvalue().decode("ascii"))
    assert text.startswith("#####-----   50 %  0:01")


def test_done_and_left_can_be_told_apart_without_colours():
    line = ProgressLine(share=0.3, elapsed=1.0, left=None, parts=())
    assert shown(line, 40, no_color=True).startswith("━━━       " + "   30 %")
    assert shown(line, 40).startswith("━━━━━━━━━━" + "   30 %")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0:00"),
        (59.6, "1:00"),
        (65.0, "1:05"),
        (3600.0, "1:00:00"),
        (359_999.0, "99:59:59"),
        (1e6, "12 days"),
    ],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_parts_give_way_by_rank_and_first_to_their_short_form():
    parts = (
        Part(text="last", rank=2),
        Part(text="long words", rank=0, short="word"),
        Part(text="b", rank=1),
    )
    line = ProgressLine(share=1.0, elapsed=0.0, left=None, parts=parts)
    found = {columns: line.fitted(columns)[1].split("  ")[2:] for columns in (23, 29, 35, 38, 45)}
    assert found == {
        23: [],
        29: ["word"],
        35: ["long words"],
        38: ["long words", "b"],
        45: ["last", "long words", "b"],
    }


# Time left


def test_the_widest_molecules_are_named_where_there_are_several():
    assert "widest" not in busy().line()
    it = status()
    worst = (("H2O PBE/6-31g", 8e-4), ("H2 PBE/6-31g", 2e-5))
    several = Validation(energy=-76.3, bracket_width=1e-4, best=True, worst=worst)
    it.update(event(100, 10.0, validation=several))
    assert it.worst_words(9) == "widest H2O PBE/6-31g 800 µEh, H2 PBE/6-31g 20 µEh"
    assert it.parts()[-1].text == "widest H2O PBE/6-31g 800 µEh"
    assert it.parts()[-1].rank == max(part.rank for part in it.parts())


def test_time_left_by_steps():
    it = status(steps=100)
    it.update(event(1, 0.1, training=trained()))
    assert it.seconds_left is None  # one step tells nothing
    for step in range(2, 51):
        it.update(event(step, 0.1 * step, training=trained()))
    assert it.seconds_left == pytest.approx(5.0)
    it.update(event(100, 10.0, progress=1.0, training=trained()))
    assert it.seconds_left is None


def test_time_left_by_the_clock():
    it = status(minutes=1.0)
    assert it.seconds_left == 60.0
    it.update(event(1, 15.0, training=trained()))
    assert it.seconds_left == 45.0


@pytest.mark.parametrize(("steps", "left"), [(40, 10.0), (1000, 30.0)])
def test_time_left_by_what_comes_first(steps, left):
    it = status(steps=steps, minutes=1.0)
    for step in range(1, 31):
        it.update(event(step, float(step), training=trained()))
    assert it.seconds_left == pytest.approx(left)


def test_time_left_after_a_resumption_is_by_the_pace_of_this_session():
    it = status(step=500, elapsed=5000.0)
    it.update(event(500, 5001.0, validation=validated()))
    assert it.seconds_left is None
    for step in range(501, 521):
        it.update(event(step, 5001.0 + 0.5 * (step - 500), training=trained()))
    assert it.seconds_left == pytest.approx(480 / (20 / 11.0), rel=0.01)


def test_the_pace_is_that_of_the_last_minute():
    it = status(steps=10**6)
    for step in range(1, 101):
        it.update(event(step, float(step), training=trained()))
    for step in range(101, 901):
        it.update(event(step, 100.0 + 0.1 * (step - 100), training=trained()))
    assert it.rate == pytest.approx(10.0, rel=0.02)


# No number that is none


def test_before_anything_is_known():
    it = status(step=30)
    assert it.line() == "  0 %  step 30  samples 0"
    it.update(event(30, 0.0, progress=0.3, nsamples=64, validation=validated()))
    assert it.line() == " 30 %  step 30  bracket (held out 13 µEh)  samples 64"
    assert [part.text for part in it.parts()] == [
        "step 30",
        "bracket (held out 13 µEh)",
        "64 samples",
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_none_are_left_out_and_forgotten(bad):
    it = status()
    for width in (bad, 2e-5, bad):
        it.update(event(1, 1.0, training=trained(width, energy=-76.3 if width != bad else bad)))
    it.update(event(1, 1.0, nsamples=4, sampling=sampled(math.nan)))
    it.update(event(1, 1.0, nsamples=4, validation=validated(bad)))
    assert "bracket 20 µEh" in it.line()
    for text in (it.line(), shown(line_of(it), 160)):
        assert "nan" not in text
        assert "inf" not in text


def test_errors_of_hamiltonians():
    it = status()
    it.update(event(1, 1.0, training=trained(hamiltonian=3e-5)))
    assert "Hamiltonian error 30 µEh" in it.line()
    assert "E " not in it.line()
    it.update(event(1, 1.0, validation=validated()))
    assert "Hamiltonian error 30 µEh  bracket (held out 13 µEh)" in it.line()


# Where it is shown


def displayed(monkeypatch, term, columns=80):
    """What a pseudo-terminal gets of a few events."""
    primary, secondary = pty.openpty()
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", str(columns))
    with open(secondary, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with progress_display(Status(100, None, 0, 0.0)) as show:
            for step in range(1, 51):
                show(event(step, 0.1 * step, step / 100, training=trained()))
            show(event(50, 5.0, 0.5, validation=validated()))
        terminal.flush()
        parts = []
        while select.select([primary], [], [], 0.1)[0]:
            parts.append(os.read(primary, 100_000))
        monkeypatch.undo()
    os.close(primary)
    return b"".join(parts).decode()


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_bar_on_a_terminal(columns, monkeypatch):
    text = displayed(monkeypatch, "xterm", columns)
    assert "\x1b[" in text
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "\n").strip().split("\n")[-1]
    assert re.match(r"━+   50 %  0:0\d  0:05 left", last)
    assert ("held out 13 µEh" in last) == (columns >= 60)
    assert len(last) <= columns


@pytest.mark.parametrize("term", ["dumb", "unknown", "DUMB"])
def test_lines_on_a_terminal_that_cannot_move_its_cursor(term, monkeypatch):
    text = displayed(monkeypatch, term)
    assert "\x1b" not in text
    assert text.splitlines()[-1].startswith(" 50 %  step 50  E -76.30000 Eh  bracket 20 µEh (held")
    assert text.splitlines()[-1].endswith("10.0 steps/s  0:05 left")
