"""The tables and figures of `docs/results/performance.md`, from the numbers of `throughput.py`.

    python benchmarks/plot_throughput.py

A table stands on the page between `<!-- table: NAME -->` and `<!-- end -->`; what is there is
replaced, and all else stays as it is written.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _common import benchmark_parser
from throughput_record import (
    COLD,
    KERNELS,
    TORCH,
    WARM,
    Peak,
    Piece,
    Timing,
    all_peaks,
    all_timings,
    exponents,
    read_pieces,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, FIGURES = DOCS / "results" / "performance.md", DOCS / "figures"
NUMBERS = FIGURES / "throughput.json"
FORCES = "energy + forces"
#: Side and family, what they are called, and how they are drawn.
FOCK, POTENTIAL = (KERNELS, "fock"), (KERNELS, "potential")
TORCHS, MINAO, LAST = (TORCH, "fock"), (COLD, ""), (WARM, "")
NAMES = {
    FOCK: "`fock`",
    POTENTIAL: "`potential`",
    TORCHS: "`fock` by torch",
    MINAO: "PySCF, minao",
    LAST: "PySCF, last density",
}
STYLES = {
    FOCK: ("#0072b2", "o-"),
    POTENTIAL: ("#56b4e9", "s-"),
    TORCHS: ("#009e73", "^--"),
    MINAO: ("#d55e00", "v-"),
    LAST: ("#e69f00", "D--"),
}
#: Ticks of the axis of orbitals.
_ORBITALS = (10, 20, 50, 100, 200, 500)
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: Of one molecule, level, work and number of threads: a row of each side.
Group = dict[tuple[str, str], Timing]


def number(value: float) -> str:
    """Three digits at most, and none that mean nothing."""
    digits = 2 if value < 1 else 1 if value < 10 else 0
    return f"{value:,.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def groups(timings: Iterable[Timing], work: str) -> list[Group]:
    """The sides beside each other, by level, threads and number of orbitals."""
    found: dict[tuple[int, int, str], Group] = {}
    levels = {t.level: None for t in timings}
    order = {level: index for index, level in enumerate(levels)}
    for t in timings:
        if t.work == work:
            key = (order[t.level], t.natoms, f"{t.molecule} {t.threads}")
            found.setdefault(key, {})[t.side, t.family] = t
    return [found[key] for key in sorted(found)]


def first(group: Group) -> Timing:
    """What all sides have in common."""
    return next(iter(group.values()))


def cell(group: Group, side: tuple[str, str], value: Callable[[Timing], float]) -> str:
    """Of one side, if it took part."""
    return number(value(group[side])) if side in group else "–"


def leads(group: Group, slower: tuple[str, str]) -> str:
    """How many times faster than PySCF both families are, as far as they took part."""
    if slower not in group:
        return "–"
    whole = group[slower].cpu_ms
    return ", ".join(cell(group, side, lambda t: whole / t.cpu_ms) for side in (FOCK, POTENTIAL))


def costs(timings: Sequence[Timing], work: str) -> str:
    """CPU time of all sides with one thread."""
    head = ["level", "molecule", "orbitals", "rounds", *NAMES.values()]
    head += ["minao : ours", "last : ours"]
    chosen = [group for group in groups(timings, work) if first(group).threads == 1]
    return table(
        head,
        (
            [
                first(group).level,
                first(group).molecule,
                str(first(group).nao),
                str(min(row.rounds for row in group.values())),
                *(cell(group, side, lambda t: t.cpu_ms) for side in NAMES),
                leads(group, MINAO),
                leads(group, LAST),
            ]
            for group in chosen
        ),
    )


def threads(timings: Sequence[Timing]) -> str:
    """CPU and wall time of what was measured with two threads, beside one."""
    chosen = groups(timings, FORCES)
    several = {(first(g).level, first(g).molecule) for g in chosen if first(g).threads > 1}
    sides = [FOCK, POTENTIAL, MINAO, LAST]
    return table(
        ["level", "molecule", "threads", *(f"{NAMES[s]}: CPU, wall" for s in sides)],
        (
            [
                first(group).level,
                first(group).molecule,
                str(first(group).threads),
                *(
                    f"{cell(group, s, lambda t: t.cpu_ms)}, {cell(group, s, lambda t: t.wall_ms)}"
                    for s in sides
                ),
            ]
            for group in chosen
            if (first(group).level, first(group).molecule) in several
        ),
    )


def training(timings: Sequence[Timing]) -> str:
    """CPU time of training and sampler steps."""
    sides = [FOCK, TORCHS, POTENTIAL, (TORCH, "potential")]
    works = [w for w in dict.fromkeys(t.work for t in timings) if "step" in w]
    return table(
        ["work", "molecule", "`fock`", "by torch", "`potential`", "by torch"],
        (
            [work, first(group).molecule, *(cell(group, s, lambda t: t.cpu_ms) for s in sides)]
            for work in works
            for group in groups(timings, work)
            if first(group).threads == 1
        ),
    )


def growth(timings: Sequence[Timing]) -> str:
    """Exponents of energies with forces on one thread."""
    chosen = [t for t in timings if t.work == FORCES and t.threads == 1]
    fitted = exponents(chosen)

    def exponent(level: str, side: tuple[str, str]) -> str:
        """And the orbitals of the largest molecule that it is fitted to."""
        nao = [t.nao for t in chosen if (t.level, t.side, t.family) == (level, *side)]
        value = fitted.get((level, FORCES, *side, 1))
        return "–" if value is None else f"{value:.2f} (to {max(nao)})"

    levels = dict.fromkeys(level for level, *_ in fitted)  # of one molecule there is no exponent
    rows = ([level, *(exponent(level, side) for side in NAMES)] for level in levels)
    return table(["level", *NAMES.values()], rows)


def memory(peaks: Sequence[Peak]) -> str:
    """Peaks above what the libraries take."""
    found: dict[tuple[str, str, int], dict[tuple[str, str], Peak]] = {}
    for peak in peaks:
        found.setdefault((peak.level, peak.molecule, peak.nao), {})[peak.side, peak.family] = peak
    sides = [FOCK, POTENTIAL, TORCHS, MINAO]
    return table(
        ["level", "molecule", "orbitals", *(NAMES[side] for side in sides)],
        (
            [
                level,
                molecule,
                str(nao),
                *(number(of[side].above_MB) if side in of else "–" for side in sides),
            ]
            for (level, molecule, nao), of in found.items()
        ),
    )


def commands(pieces: Iterable[Piece]) -> str:
    """How it was measured: what to type, and how busy the machine was."""
    rows = (
        [f"`{c.command}`", f"{c.load[0]:.1f}, {c.load[1]:.1f}"]
        for c in (piece.conditions for piece in pieces)
    )
    return table(["command", "load before, after"], rows)


def tables(pieces: Sequence[Piece]) -> dict[str, str]:
    """All of them, by the names on the page."""
    timings, peaks = all_timings(pieces), all_peaks(pieces)
    return {
        "forces": costs(timings, FORCES),
        "energy": costs(timings, "energy"),
        "threads": threads(timings),
        "training": training(timings),
        "growth": growth(timings),
        "memory": memory(peaks),
        "commands": commands(pieces),
        "machine": "".join(f"{m}.\n" for m in {p.conditions.machine: None for p in pieces}),
    }


def filled(page: str, made: dict[str, str]) -> str:
    """The page with today's tables in their places.

    Raises:
        KeyError: the page asks for a table that there is not.
    """
    return MARKED.sub(lambda found: f"{found[1]}{made[found[2]]}{found[3]}", page)


def draw_costs(axis: Axes, timings: Sequence[Timing], level: str) -> None:
    """CPU time of every side against the number of orbitals."""
    for side, (colour, style) in STYLES.items():
        own = sorted(
            (t.nao, t.cpu_ms / 1e3)
            for t in timings
            if (t.level, t.work, t.threads) == (level, FORCES, 1) and (t.side, t.family) == side
        )
        if own:
            label = NAMES[side].replace("`", "")
            axis.loglog(*zip(*own, strict=True), style, color=colour, label=label, markersize=4)
    axis.set(title=level, xlabel="orbitals", ylabel="CPU time / s")


def draw_memory(axis: Axes, peaks: Sequence[Peak], level: str) -> None:
    """Peak memory of every side against the number of orbitals."""
    for side, (colour, style) in STYLES.items():
        own = sorted(
            (p.nao, p.above_MB) for p in peaks if p.level == level and (p.side, p.family) == side
        )
        if own:
            label = NAMES[side].replace("`", "")
            axis.loglog(*zip(*own, strict=True), style, color=colour, label=label, markersize=4)
    axis.set(title=level, xlabel="orbitals", ylabel="peak memory / MB")


def draw(path: Path, levels: Sequence[str], panel: Callable[[Axes, str], None]) -> None:
    """A figure with a panel for each level."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = min(3, len(levels))
    nrows = -(-len(levels) // columns)
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "ase_srdft", "svg.fonttype": "none"}):
        figure = Figure(figsize=(3.0 * columns, 2.7 * nrows), layout="constrained")
        axes = figure.subplots(nrows, columns, squeeze=False, sharex=True, sharey=True).flat
        for axis, level in zip(axes, levels, strict=False):
            panel(axis, level)
            axis.grid(alpha=0.3)
            axis.minorticks_off()
            axis.set_xticks(_ORBITALS, [str(n) for n in _ORBITALS])
            axis.xaxis.set_tick_params(labelbottom=True)
        for axis in list(figure.axes)[len(levels) :]:
            axis.remove()
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.savefig(path, facecolor="white", metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the page and draw its figures."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("numbers", type=Path, nargs="?", default=NUMBERS)
    parser.add_argument("--page", type=Path, default=PAGE, help="whose tables are replaced")
    parser.add_argument("--figures", type=Path, default=FIGURES, help="folder of the figures")
    options = parser.parse_args(arguments)
    pieces = read_pieces(options.numbers)
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(filled(page, tables(pieces)), encoding="utf-8")
    timings, peaks = all_timings(pieces), all_peaks(pieces)
    levels = list(dict.fromkeys(t.level for t in timings if t.work == FORCES))
    if levels:
        path = options.figures / "performance_cost.svg"
        draw(path, levels, lambda axis, level: draw_costs(axis, timings, level))
    levels = list(dict.fromkeys(peak.level for peak in peaks))
    if levels:
        path = options.figures / "performance_memory.svg"
        draw(path, levels, lambda axis, level: draw_memory(axis, peaks, level))
    return 0


if __name__ == "__main__":
    sys.exit(main())
