"""A model as a picture or a page: what it is for, its structure, its errors, its samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from ase_srdft.calculator.card_words import error_words
from ase_srdft.calculator.model_card import ModelCard, model_card
from ase_srdft.common.atomic_files import write_atomically
from ase_srdft.models.shipped_models import model_path
from ase_srdft.runs.report.axes import legend, log_range, log_scale
from ase_srdft.runs.report.drawing import COLOURS, colour_variables, inline_svg
from ase_srdft.runs.report.formula import with_subscripts
from ase_srdft.runs.report.history import History, read_history
from ase_srdft.runs.report.molecules import draw_molecule
from ase_srdft.runs.report.page_template import MODEL_PAGE
from ase_srdft.runs.report.picture_file import PICTURES, check_suffix, write_picture
from ase_srdft.runs.report.plots import draw_sampled_energies, draw_widths
from ase_srdft.runs.report.words import CHEMICAL_ACCURACY_UEH, markup, number
from ase_srdft.version import __version__

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MODEL_PICTURES", "ModelAndRun", "read_model_and_run", "write_model_picture"]

#: Endings of names, in lower case.
MODEL_PICTURES = (*PICTURES, ".html")
#: In points: of a picture and the card on it, of its drawing of a molecule, and of a plot and a
#: drawing on a page.
_WIDTH, _CARD = 900.0, 280.0
_STRUCTURE = (260.0, _CARD)
_PLOT, _DRAWING = (360.0, 264.0), (190.0, 140.0)
_BLUE, _TEXT, _SOFT = (COLOURS[name][0] for name in ("blue", "text", "soft"))
_Panel = Callable[["Axes", "ModelAndRun"], str]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelAndRun:
    """A model's card, and the log of its training if that is beside its file.

    Attributes:
        card: of the file.
        history: of ``metrics.jsonl`` in the same folder, of a ``model.srdft``.
    """

    card: ModelCard
    history: History | None

    @property
    def names(self) -> Sequence[str]:
        """Molecules of the run."""
        start = self.history.start if self.history else None
        return [with_subscripts(name) for name in start.molecules] if start else []


def read_model_and_run(model: str | Path) -> ModelAndRun:
    """The card of a model, by name or path, and what its run has logged.

    Raises:
        BadInput: no such model, or a damaged file.
    """
    card, path = model_card(model), model_path(Path(model).expanduser())
    logged = path.name == "model.srdft" and path.with_name("metrics.jsonl").is_file()
    return ModelAndRun(card=card, history=read_history(path.parent) if logged else None)


def write_model_picture(path: Path, model: ModelAndRun) -> None:
    """Draw a model, or write a page of it, in one go.

    Args:
        path: of the file; its ending, of ``MODEL_PICTURES``, chooses.
        model: what is known of it.

    Raises:
        BadInput: another ending.
    """
    if check_suffix(path, MODEL_PICTURES) == ".html":
        write_atomically(path, _page(model))
    else:
        write_picture(
            path, (_WIDTH, sum(_heights(model))), lambda figure: _draw_picture(figure, model)
        )


def _draw_picture(figure: Figure, model: ModelAndRun) -> None:
    """The card and the structure above, errors and samples below, or words that they lack."""
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    above, below = np.asarray(figure.subfigures(2, 1, height_ratios=_heights(model)))
    words, structure = above.subfigures(1, 2, width_ratios=(_WIDTH - _STRUCTURE[0], _STRUCTURE[0]))
    name, _, rest = str(model.card).partition("\n")
    words.text(0.02, 0.97, Path(name).name, fontsize=18, va="top")
    words.text(0.02, 0.86, rest, fontsize=8.5, family="monospace", va="top", linespacing=1.35)
    if model.card.structure is not None:
        draw_molecule(structure, model.card.structure, _STRUCTURE)
    elif _sizes(model):
        draw_sizes(structure.add_subplot(), model)
    for panel, (heading, draw) in zip(below.subfigures(1, 2), _PANELS.items(), strict=True):
        axes = panel.add_subplot()
        caption = draw(axes, model)
        if not axes.has_data():
            axes.set_axis_off()
            axes.set_title(heading)
            axes.text(0.0, 0.98, fill(caption, 56), va="top", transform=axes.transAxes, fontsize=10)


def _heights(model: ModelAndRun) -> tuple[float, float]:
    """Of the two rows of a picture in points."""
    return _CARD, _PLOT[1] + 60.0 if _draws_any(model) else 60.0


def _draws_any(model: ModelAndRun) -> bool:
    """Whether errors or samples are known one by one."""
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    for draw in _PANELS.values():
        draw(axes, model)
    return axes.has_data()


def draw_sizes(axes: Axes, model: ModelAndRun) -> str:
    """How large the molecules are that it was trained on, where there are several."""
    from matplotlib.ticker import MaxNLocator

    sizes = _sizes(model)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.bar(list(sizes), list(sizes.values()), color=_BLUE, width=0.8)
    axes.set_title("molecules trained on")
    axes.set_xlabel("atoms other than hydrogen")
    return f"How many of its {sum(sizes.values()):,} molecules are how large."


def _sizes(model: ModelAndRun) -> dict[int, int]:
    """How many of several molecules have how many atoms other than hydrogen, by their names."""
    counts: Counter[int] = Counter()
    for name in model.card.molecules or ():
        atoms = re.findall(r"([A-Z][a-z]?)(\d*)", name.partition(" ")[0])
        counts[sum(int(count or 1) for symbol, count in atoms if symbol != "H")] += 1
    return dict(sorted(counts.items())) if counts.total() > 1 else {}


def draw_errors(axes: Axes, model: ModelAndRun) -> str:
    """Brackets of the geometries held out; of an older file, of the run's late samples."""
    card = model.card
    widths = [width for width in card.bracket_widths_uEh or () if width > 0.0]
    if not widths and model.history is not None and model.history.late_widths_uEh():
        return draw_widths(axes, model.history, model.names)
    if not widths:
        known = {"Mean": card.bracket_width_uEh, "largest": card.bracket_width_max_uEh}
        words = [f"{name} {error_words(w)} µEh" for name, w in known.items() if w is not None]
        return f"{', '.join(words) or 'Not recorded'}; the file records no single geometries."
    mean, largest = float(np.mean(widths)), max(widths)
    low, high = log_range([*widths, CHEMICAL_ACCURACY_UEH])
    nbins = int(np.clip(round(1.5 * len(widths) ** 0.4), 5, 36))
    bins = np.geomspace(min(widths) / 1.05, largest * 1.05, nbins + 1)
    axes.hist(widths, bins.tolist(), color=_BLUE, rwidth=0.94)
    axes.axvline(mean, color=_TEXT, label=f"mean: {number(mean)} µEh")
    axes.axvline(largest, color=_TEXT, linestyle="--", label=f"largest: {number(largest)} µEh")
    axes.axvline(CHEMICAL_ACCURACY_UEH, color=_SOFT, linestyle=":", label="chemical accuracy")
    log_scale(axes, "x", low, high)
    axes.set_title(f"{len(widths):,} geometries held out")
    axes.set_xlabel("bracket width in microhartree (µEh)")
    legend(axes)
    return "How far the model’s energies are from the SCF, at most, where it was not trained."


def draw_samples(axes: Axes, model: ModelAndRun) -> str:
    """Energies that were sampled, by the log of the run."""
    if model.history is None:
        nsamples = model.card.nsamples
        if nsamples == 0:
            return "Trained on given structures: it sampled none of its own."
        return "Energies of its samples are not in the model file, but in the log of its run."
    return draw_sampled_energies(axes, model.history, model.names)


_PANELS: dict[str, _Panel] = {"Certified error": draw_errors, "Energies sampled": draw_samples}


def _page(model: ModelAndRun) -> str:
    """The same as a page for a browser."""
    card = model.card
    name, _, rest = str(card).partition("\n")
    panels = _PANELS | ({"Molecules": draw_sizes} if _sizes(model) else {})
    plots = [_plot(i, heading, draw, model) for i, (heading, draw) in enumerate(panels.items())]
    use = f"from ase_srdft import SRDFTCalculator\natoms.calc = SRDFTCalculator({card.name!r})"
    return MODEL_PAGE.substitute(
        light=colour_variables(dark=False),
        dark=colour_variables(dark=True),
        title=markup(name),
        heading=markup(Path(name).name),
        scope=markup(card.scope or ""),
        structure=_structure_svg(model),
        card=markup(rest),
        use=markup(use),
        plots="".join(plots),
        version=markup(__version__),
    )


def _structure_svg(model: ModelAndRun) -> str:
    atoms = model.card.structure
    if atoms is None:
        return ""
    svg, _ = inline_svg(
        "structure",
        "The structure that the model was trained on",
        _DRAWING,
        lambda figure: draw_molecule(figure, atoms, _DRAWING),
    )
    return f"<figure>{svg}</figure>"


def _plot(index: int, heading: str, draw: _Panel, model: ModelAndRun) -> str:
    def on_figure(figure: Figure) -> tuple[str, bool]:
        figure.set_layout_engine("constrained", h_pad=0.08)
        axes = figure.add_subplot()
        return draw(axes, model), axes.has_data()

    svg, (caption, drawn) = inline_svg(f"plot-{index}", heading, _PLOT, on_figure)
    drawing = svg if drawn else ""
    return (
        f'<figure class="card"><h2>{heading}</h2>{drawing}'
        f"<figcaption>{markup(caption)}</figcaption></figure>"
    )
