"""The answers of the last geometries, and the graph of the last energy.

A band of images that share a calculator asks for forces and energy of every image in turn, and a
line search for the energy of a point and then for its forces: each is to cost one evaluation.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

from ase_srdft.models.electronic_structure import ElectronicStructure
from ase_srdft.models.open_single_point import OpenSinglePoint

__all__ = ["Answer", "AnswerMemory", "Key"]

#: The results under ASE's names and in its units, the electrons in atomic ones, and the version of
#: the weights.
Answer = tuple[dict[str, Any], ElectronicStructure, int]
#: Numbers, charge, positions and masses (as far as they matter) of a geometry.
Key = tuple[tuple[int, ...], int, bytes, bytes]

#: Graphs in vain after which none is kept.  A graph adds up to a quarter to the price of an energy
#: (a seventh with compiled kernels) and saves one where forces follow: it pays if they follow one
#: energy in four.
_MOST_IN_VAIN = 4


class AnswerMemory:
    """What was answered, each geometry by one set of weights.

    Args:
        size: geometries that are remembered; the least recently asked about go first.
    """

    def __init__(self, size: int = 16) -> None:
        self._size = size
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._graph: tuple[Key, OpenSinglePoint] | None = None
        self._in_vain = _MOST_IN_VAIN

    @property
    def keeps_graphs(self) -> bool:
        """Whether forces are likely to follow an energy.

        Those who ask for energies alone never pay for a graph, others from their second pair on.
        """
        return self._in_vain < _MOST_IN_VAIN

    def __contains__(self, key: Key) -> bool:
        return key in self._answers

    def answer(self, key: Key, forces: bool) -> Answer | None:
        """A copy of what is known of a geometry; None if it is not, or not with its forces."""
        if key not in self._answers:
            return None
        self._answers.move_to_end(key)
        results, state, version = self._answers[key]
        if forces and "forces" not in results:
            self._in_vain = 0  # they follow
            return None
        return copy.deepcopy(results), state, version

    def take_graph(self, key: Key) -> OpenSinglePoint | None:
        """The last energy's graph if it is this geometry's.

        To be called before anything is computed: the graph serves once, and that of another
        geometry is let go, so that there are never two.
        """
        kept, self._graph = self._graph, None
        if kept is None or kept[0] == key:
            return None if kept is None else kept[1]
        self._in_vain += 1
        return None

    def keep(self, key: Key, answer: Answer, graph: OpenSinglePoint | None) -> None:
        """Remember an answer, and the graph of an energy."""
        self._graph = None if graph is None else (key, graph)
        results, state, version = answer
        self._answers[key] = copy.deepcopy(results), state, version
        self._answers.move_to_end(key)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)

    def forget(self) -> None:
        """All answers and the graph; whether forces follow energies is no matter of weights."""
        self._answers.clear()
        self._graph = None
