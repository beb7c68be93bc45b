"""Which sampled geometries are trained on most and kept longest: those with a wide bracket."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ase_srdft.training.config import SelectionConfig

__all__ = ["draw_probabilities", "index_to_evict"]

#: Share of a full buffer, the oldest, from which one geometry must leave.
_OLDEST = 0.25


def draw_probabilities(
    widths: Float[np.ndarray, " nsamples"],
    config: SelectionConfig,
    molecule_widths: Float[np.ndarray, " nsamples"] | None = None,
) -> Float[np.ndarray, " nsamples"]:
    """The probability of each geometry to be drawn.

    ``p_i = u/n + (1 - u) w_i^a v_i^b / sum_j w_j^a v_j^b`` with u = ``uniform_share``, a =
    ``exponent``, b = ``molecule_exponent``, ``w_i = min(width_i, clip * median width)``, and v_i
    the same of the molecule's widths.  A geometry that no model has been evaluated at, or a
    molecule, counts as wide as the widest.  Every p_i is at least u/n, so that a model which can
    represent the SCF states learns the same from these draws as from uniform ones: the loss is
    smallest at the SCF state of every geometry with p_i > 0.

    Args:
        widths: latest brackets (Hartree), NaN where there is none.
        config: a, b, u and the clip.
        molecule_widths: of the molecule of each geometry (Hartree per electron), likewise; None
            where all are alike.
    """
    nsamples = len(widths)
    uniform = np.full(nsamples, 1.0 / nsamples)
    weights = _weights(widths, config.exponent, config.clip)
    if molecule_widths is not None:
        weights = weights * _weights(molecule_widths, config.molecule_exponent, config.clip)
    if weights.sum() <= 0.0:
        return uniform
    share = config.uniform_share
    probabilities: np.ndarray = share * uniform + (1.0 - share) * weights / weights.sum()
    return probabilities


def _weights(
    widths: Float[np.ndarray, " nsamples"], exponent: float, clip: float
) -> Float[np.ndarray, " nsamples"]:
    """Clipped widths to a power, 1 at most; all 1 where there is nothing to tell them apart."""
    known = widths[np.isfinite(widths)]
    clipped = np.minimum(_filled(widths), clip * np.median(known) if len(known) else 0.0)
    if clipped.max() <= 0.0:  # none is known, or all of them converged
        return np.ones(len(widths))
    weights: np.ndarray = (clipped / clipped.max()) ** exponent
    return weights


def index_to_evict(widths: Float[np.ndarray, " nsamples"]) -> int:
    """The narrowest bracket among the oldest quarter; the oldest of several.

    Args:
        widths: from the oldest geometry to the newest (Hartree), NaN where there is none, which
            counts as the widest.
    """
    oldest = max(1, int(_OLDEST * len(widths)))
    return int(np.argmin(_filled(widths)[:oldest]))


def _filled(widths: np.ndarray) -> np.ndarray:
    """Unknown widths replaced by the widest known one; not negative."""
    known = np.isfinite(widths)
    widest = widths.max(where=known, initial=0.0)
    filled: np.ndarray = np.where(known, np.maximum(widths, 0.0), widest)
    return filled
