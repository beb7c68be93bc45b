"""Which sampled geometries are trained on most and kept longest: those with a wide bracket."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ase_srdft.training.config import SelectionConfig

__all__ = ["draw_probabilities", "index_to_evict"]

#: Share of a full buffer, the oldest, from which one geometry must leave.
_OLDEST = 0.25


def draw_probabilities(
    widths: Float[np.ndarray, " nsamples"], config: SelectionConfig
) -> Float[np.ndarray, " nsamples"]:
    """The probability of each geometry to be drawn.

    ``p_i = u/n + (1 - u) w_i^a / sum_j w_j^a`` with u = ``uniform_share``, a = ``exponent`` and
    ``w_i = min(width_i, clip * median width)``.  A geometry that no model has been evaluated at
    counts as wide as the widest.  Every p_i is at least u/n, so that a model which can represent
    the SCF states learns the same from these draws as from uniform ones: the loss is smallest at
    the SCF state of every geometry with p_i > 0.

    Args:
        widths: latest brackets (Hartree), NaN where there is none.
        config: a, u and the clip.
    """
    nsamples = len(widths)
    uniform = np.full(nsamples, 1.0 / nsamples)
    known = widths[np.isfinite(widths)]
    if len(known) == 0:
        return uniform
    clipped = np.minimum(_filled(widths), config.clip * np.median(known))
    if clipped.max() <= 0.0:  # all of them converged
        return uniform
    weights = (clipped / clipped.max()) ** config.exponent
    share = config.uniform_share
    probabilities: np.ndarray = share * uniform + (1.0 - share) * weights / weights.sum()
    return probabilities


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
