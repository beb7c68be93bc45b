"""What the tables of costs are made of, and that the page has today's."""

import functools
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path

import plot_throughput
import pytest
import throughput
from side_by_side import medians
from throughput_record import (
    COLD,
    KERNELS,
    TORCH,
    WARM,
    Conditions,
    Peak,
    Piece,
    Timing,
    all_peaks,
    all_timings,
    append_piece,
    exponents,
    read_pieces,
)

from ase_srdft.dft.kernels import library

OURS = [TORCH] if library.loaded() is None else [KERNELS, TORCH]
CONDITIONS = Conditions(command="throughput.py", machine="a machine", load=[0.5, 0.25])
TIMING = Timing(
    molecule="water", natoms=3, nao=13, level="PBE/6-31g", work="energy + forces", side=KERNELS,
    family="fock", threads=1, rounds=5, cpu_ms=20.0, wall_ms=25.0,
)  # fmt: skip
PEAK = Peak(
    molecule="water", natoms=3, nao=13, level="PBE/6-31g", side=KERNELS, family="fock",
    process_MB=480.0, above_MB=20.0,
)  # fmt: skip
PYSCF = [replace(TIMING, side=side, family="", cpu_ms=ms) for side, ms in ((COLD, 90), (WARM, 60))]
PIECE = Piece(
    conditions=CONDITIONS,
    timings=[TIMING, replace(TIMING, family="potential", cpu_ms=30.0), *PYSCF],
    peaks=[PEAK],
)


def timed(tmp_path, *arguments):
    """The rows of the cheapest table there is."""
    path = tmp_path / "times.json"
    words = ["--molecules", "water", "--levels", "LDA/sto-3g", "--repeats", "1"]
    assert throughput.main([*words, "--output", str(path), *arguments]) == 0
    (piece,) = read_pieces(path)
    assert "throughput.py --molecules water" in piece.conditions.command
    assert "times.json" not in piece.conditions.command
    return piece.timings


def test_energies_of_all_sides(tmp_path, capsys):
    rows = timed(tmp_path, "--work", "energy", "--family", "fock")
    assert [(row.side, row.family) for row in rows] == [
        *((side, "fock") for side in OURS),
        (COLD, ""),
        (WARM, ""),
    ]
    assert all(row.nao == 7 and 0.0 < row.cpu_ms < 1e5 for row in rows)
    assert "water, 3 atoms, 7 orbitals, LDA/sto-3g, 1 thread(s)" in capsys.readouterr().out


@pytest.mark.slow
def test_training_and_sampling(tmp_path):
    rows = timed(tmp_path, "--work", "training", "sampling", "--sides", "kernels", "torch")
    works = {row.work for row in rows}
    assert works == {"training step, 8 new", "training step, 8 revisited", "sampler step"}
    for work in works:
        assert {(row.side, row.family) for row in rows if row.work == work} == {
            (side, family) for side in OURS for family in throughput.FAMILIES
        }


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells of memory")
def test_peaks_of_processes(tmp_path):
    path = tmp_path / "peaks.json"
    words = ["--memory", "--molecules", "water", "--levels", "LDA/sto-3g", "--sides", "torch"]
    assert throughput.main([*words, "--family", "potential", "--output", str(path)]) == 0
    (peak,) = all_peaks(read_pieces(path))
    assert (peak.side, peak.family, peak.nao) == (TORCH, "potential", 7)
    assert 1.0 < peak.above_MB < 200.0 < peak.process_MB < 2000.0


@pytest.mark.parametrize(
    ("limit", "rounds", "ncalls"), [(math.inf, 10, 11), (12.5, 4, 5), (9.0, 1, 1), (4.5, 1, 1)]
)
def test_what_takes_long_is_timed_less_often(limit, rounds, ncalls, monkeypatch):
    calls = []
    clock = itertools.count()
    # a round asks for the time four times: it takes three of these seconds
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    found = medians({"one": lambda: calls.append(1)}, 10, limit)
    assert (found["one"].wall, found["one"].rounds) == (1.0, rounds)
    assert len(calls) == ncalls


def test_what_is_quick_is_warm_where_it_is_timed_once(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    costs = {"quick": iter([0.9, 0.1]), "long": iter([20.0])}

    def side(name):
        now[0] += next(costs[name])

    found = medians({name: functools.partial(side, name) for name in costs}, 5, 30.0)
    assert {name: seconds.wall for name, seconds in found.items()} == pytest.approx(
        {"quick": 0.1, "long": 20.0}
    )


def test_pieces_are_merged_and_what_came_last_counts(tmp_path):
    path = tmp_path / "numbers.json"
    append_piece(path, PIECE)
    again = replace(TIMING, cpu_ms=10.0)
    other = replace(TIMING, threads=2)
    append_piece(path, Piece(conditions=CONDITIONS, timings=[again, other]))
    pieces = read_pieces(path)
    assert len(pieces) == 2
    assert pieces[0] == PIECE
    rows = all_timings(pieces)
    assert len(rows) == 5
    assert rows[0].cpu_ms == 10.0
    assert all_peaks(pieces) == [PEAK]


def test_exponents_are_slopes():
    def timings(*pairs):
        return [replace(TIMING, nao=nao, cpu_ms=cpu_ms) for nao, cpu_ms in pairs]

    fitted = exponents(timings((10, 3.0), (20, 12.0), (40, 48.0)))
    key = ("PBE/6-31g", "energy + forces", KERNELS, "fock", 1)
    assert fitted == {key: pytest.approx(2.0)}
    assert exponents(timings((10, 3.0), (10, 4.0))) == {}


@pytest.mark.parametrize(
    ("value", "text"), [(0.1234, "0.12"), (5.678, "5.7"), (56.78, "57"), (12345.6, "12,346")]
)
def test_numbers_have_the_digits_that_mean_something(value, text):
    assert plot_throughput.number(value) == text


def test_leads_are_of_both_families():
    table = plot_throughput.tables([PIECE])["forces"]
    assert table.splitlines()[-1].split(" | ")[-2:] == ["4.5, 3.0", "3.0, 2.0 |"]


def test_a_page_is_filled_and_figures_are_drawn(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: memory -->\nold\n<!-- end -->\nafter\n")
    append_piece(tmp_path / "numbers.json", PIECE)
    arguments = [str(tmp_path / "numbers.json"), "--page", str(page), "--figures", str(tmp_path)]
    assert plot_throughput.main(arguments) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- table: memory -->\n| level |")
    assert text.endswith("|\n<!-- end -->\nafter\n")
    assert "| water | 13 | 20 |" in text
    assert "old" not in text
    for name in ("performance_cost.svg", "performance_memory.svg"):
        assert 5e3 < (tmp_path / name).stat().st_size < 2e5


def test_the_page_has_the_numbers_that_are_kept():
    page = plot_throughput.PAGE.read_text(encoding="utf-8")
    made = plot_throughput.tables(read_pieces(plot_throughput.NUMBERS))
    assert plot_throughput.filled(page, made) == page
    assert set(re.findall(r"<!-- table: (\w+) -->", page)) == set(made)
    for figure in re.findall(r"\(figures/([\w.]+)\)", page):
        assert (plot_throughput.FIGURES / figure).is_file()
