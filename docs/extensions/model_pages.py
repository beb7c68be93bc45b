"""A directive for the page of a model that ships, from the card that the model's file gives.

``{model} organics`` shows what the model is for and not for, its card as a table, and pictures of
what the file records: the structure or the sizes of the molecules, and the errors of the geometries
held out.  ``{models}`` is a table of all of them.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from ase_srdft import ModelCard, list_models
from ase_srdft.calculator.card_words import error_words, level_words, molecule_words, rows_of_card
from ase_srdft.models.shipped_models import model_path
from ase_srdft.runs.report.model_picture import (
    ModelAndRun,
    draw_errors,
    draw_sizes,
    read_model_and_run,
)
from ase_srdft.runs.report.molecules import draw_molecule
from ase_srdft.runs.report.picture_file import write_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from sphinx.application import Sphinx

__all__ = ["Model", "Models", "card_table", "models_table", "pictures_of", "purpose", "setup"]

#: Of a picture, in points.
_SIZE = (320.0, 240.0)


def purpose(card: ModelCard) -> str:
    """What a model is for, and what it is not for, in Markdown."""
    elements = ", ".join(card.elements)
    if card.level_free and card.structure is None:
        what = card.scope or f"molecules of {elements}"
        return (
            f"**For:** {what}; at any functional and basis.\n\n"
            f"**Not for:** other elements than {elements}, which are corrected from the guess "
            "instead; open shells. By itself it is nearest to the SCF at the levels that it was "
            "trained at; every answer is corrected, there and elsewhere."
        )
    level = ", ".join(map(level_words, card.levels or ()))
    formula = molecule_words(card)
    where = (
        "" if card.temperature_K is None else f", as dynamics at {card.temperature_K:g} K has it"
    )
    others, these = f"other molecules or ions, other isomers of {formula}", "these"
    if card.level_free:
        these += ", and at other levels of theory,"
    else:
        others = f"other levels of theory, {others}"
    return (
        f"**For:** many energies of the molecule {formula} of the picture, at {level}{where}.\n\n"
        f"**Not for:** {others}; for {these} take [`organics`](organics.md)."
    )


def card_table(card: ModelCard) -> str:
    """The card as a table in Markdown."""
    rows = rows_of_card(card) | {
        "size": f"{card.nbytes / 1e6:.2f} MB, {card.nparameters:,} parameters"
    }
    text = "\n".join(f"| {name} | {_cell(words)} |" for name, words in rows.items())
    return f"| | |\n| --- | --- |\n{text}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")


def models_table() -> str:
    """All shipped models, a line each, in Markdown."""
    lines = ["| model | molecules | level | error / µEh | MB |", "| --- | --- | --- | --- | --- |"]
    for name in list_models():
        card = read_model_and_run(name).card
        levels = "any" if card.level_free else ", ".join(map(level_words, card.levels or ()))
        error = error_words(card.bracket_width_uEh)
        cells = (f"[`{name}`]({name}.md)", molecule_words(card), levels, error)
        lines.append(f"| {' | '.join(cells)} | {card.nbytes / 1e6:.1f} |")
    return "\n".join(lines)


def pictures_of(model: ModelAndRun) -> dict[str, bytes]:
    """SVG by caption, of what the file of a model records."""
    card, pictures = model.card, {}
    structure = card.structure
    if structure is not None:
        caption = "The isomer that the model was trained on."
        pictures[caption] = _svg(lambda figure: draw_molecule(figure, structure, _SIZE))
    for draw in (draw_sizes, draw_errors):
        said: list[str] = []

        def on_figure(figure: Figure, draw: Any = draw, said: list[str] = said) -> None:
            figure.set_layout_engine("constrained")
            axes = figure.add_subplot()
            caption = draw(axes, model)
            said.extend([caption] if axes.has_data() else [])

        picture = _svg(on_figure)
        pictures |= dict.fromkeys(said, picture)
    return pictures


def _svg(draw: Callable[[Figure], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.svg"
        write_picture(path, _SIZE, draw)
        return path.read_bytes()


class Model(SphinxDirective):
    """The page of one shipped model, below its title."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Purpose, pictures, card, and three lines that use it."""
        (name,) = self.arguments
        self.env.note_dependency(str(model_path(name)))
        model = read_model_and_run(name)
        use = f"from ase_srdft import SRDFTCalculator\n\natoms.calc = SRDFTCalculator({name!r})"
        return [
            *self.parse_text_to_nodes(purpose(model.card)),
            *(_figure(svg, caption) for caption, svg in pictures_of(model).items()),
            *self.parse_text_to_nodes(card_table(model.card)),
            nodes.literal_block(use, use, language="python"),
        ]


def _figure(svg: bytes, caption: str) -> nodes.raw:
    """An image that is part of the page, so that no other file belongs to it."""
    address = "data:image/svg+xml;base64," + base64.b64encode(svg).decode("ascii")
    html = (
        f'<figure><img alt="{caption}" src="{address}"/><figcaption>{caption}</figcaption></figure>'
    )
    return nodes.raw("", html, format="html")


class Models(SphinxDirective):
    """A table of the shipped models, with links to their pages."""

    def run(self) -> list[nodes.Node]:
        """A table."""
        for name in list_models():
            self.env.note_dependency(str(model_path(name)))
        return self.parse_text_to_nodes(models_table())


def setup(app: Sphinx) -> dict[str, Any]:
    """Make the directives known to Sphinx."""
    app.add_directive("model", Model)
    app.add_directive("models", Models)
    return {"parallel_read_safe": True, "version": "1"}
