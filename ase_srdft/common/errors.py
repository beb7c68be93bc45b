"""The errors of the package: each says what was wrong, its value, and what to do."""

from __future__ import annotations

__all__ = [
    "BadGeometry",
    "BadInput",
    "DamagedFile",
    "DegenerateState",
    "KernelsUnavailable",
    "LearningStopped",
    "OtherIsomer",
    "RankLost",
    "ReferenceNotConverged",
    "SamplingFailed",
    "StructuresLeftOut",
    "UncertainAnswer",
    "UnknownElement",
    "WorkerFailed",
]


class BadInput(ValueError):
    """Input that cannot be used; the message is one line for the user."""


class BadGeometry(BadInput):
    """Positions at which nothing can be computed: not finite, or atoms on top of each other."""


class DamagedFile(BadInput):
    """A file of ours that fails its own checks: truncated, altered, or of an unknown version."""


class DegenerateState(UserWarning):
    """An energy that hangs on which of several orbitals of one energy is occupied."""


class KernelsUnavailable(UserWarning):
    """No compiled kernel can be used here: torch computes the same, several times more slowly."""


class LearningStopped(UserWarning):
    """A calculator's trainer has failed: it answers as before, and learns no more."""


class NothingLearned(UserWarning):
    """A model is saved before it has learned anything."""


class OtherIsomer(UserWarning):
    """A model that was trained on one molecule is asked about another with the same formula."""


class RankLost(RuntimeError):
    """Another rank of a run on several devices has ended, or was silent for too long."""


class ReferenceNotConverged(RuntimeError):
    """The reference SCF did not converge, so there is no number to compare with."""


class SamplingFailed(RuntimeError):
    """No walker can move: every sample was refused by the guards."""


class StructuresLeftOut(UserWarning):
    """Structures of those asked for that nothing can be computed for, such as open shells."""


class UncertainAnswer(UserWarning):
    """An answer that is further from the SCF than was asked for."""


class UnknownElement(UserWarning):
    """A model does not know an element: the correction begins with the guess, and takes longer."""


class WorkerFailed(RuntimeError):
    """A worker process died more often than it may; the message ends with its traceback."""
