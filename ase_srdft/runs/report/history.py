"""What a run has written down, read back: ``metrics.jsonl`` and ``config.yaml``.

Reading never fails on what a crash leaves behind: lines that are torn or incomplete are left out
and counted, and steps that a resumed run repeated count once.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

__all__ = [
    "End",
    "History",
    "LevelWidths",
    "MoleculeWidth",
    "Sampling",
    "Start",
    "Training",
    "Validation",
    "by_molecule",
    "read_history",
]

_Record = TypeVar(
    "_Record", "Start", "Training", "Sampling", "Validation", "End", "LevelWidths", "MoleculeWidth"
)


@dataclass(frozen=True, kw_only=True)
class Start:
    """A session began.

    Attributes:
        step: training steps done before.
        elapsed_s: seconds of training before.
        molecules: chemical formulas.
        level: level of theory, in words.
        nparameters: of the model.
        nframes: given frames to train on.
        nvalidation: frames held out.
        version: of this package.
    """

    step: int
    elapsed_s: float
    molecules: tuple[str, ...]
    level: str
    nparameters: int
    nframes: int
    nvalidation: int
    version: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """Averages over the last steps of training.

    Attributes:
        step: training steps done.
        elapsed_s: seconds of training.
        energy_hartree: mean over the batches.
        bracket_width_uEh: mean over the batches (microhartree).
        learning_rate: the last.
    """

    step: int
    elapsed_s: float
    energy_hartree: float
    bracket_width_uEh: float
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """One round of dynamics.

    Attributes:
        step: training steps done.
        elapsed_s: seconds of training.
        nsamples: geometries sampled so far, this round included.
        energies_hartree: of this round's samples, by the model that sampled them.
        molecules: of which molecule each sample is, as an index.
        acceptance: share of the moves that were accepted, or of the samples that were kept.
        temperature_K: of the walkers; NaN where there is no estimate.
        resets: walkers reset in this round, and samples refused, by reason.
        staleness: training steps that its weights were behind.
        bracket_width_uEh: of this round's samples (microhartree); empty if it is not logged.
    """

    step: int
    elapsed_s: float
    nsamples: int
    energies_hartree: tuple[float, ...]
    molecules: tuple[int, ...]
    acceptance: float
    temperature_K: float
    resets: dict[str, int]
    staleness: int = 0
    bracket_width_uEh: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LevelWidths:
    """Brackets at one level of theory.

    Attributes:
        level: functional/basis.
        nvalidation: geometries held out.
        bracket_width_uEh: mean (microhartree).
        bracket_width_max_uEh: of the widest (microhartree).
    """

    level: str
    nvalidation: int
    bracket_width_uEh: float
    bracket_width_max_uEh: float


@dataclass(frozen=True, kw_only=True)
class MoleculeWidth:
    """Brackets of one molecule, at one level of theory.

    Attributes:
        molecule: its name.
        bracket_width_uEh: mean of its geometries held out (microhartree).
    """

    molecule: str
    bracket_width_uEh: float


@dataclass(frozen=True, kw_only=True)
class Validation:
    """The averaged model on held-out geometries.

    Attributes:
        step: training steps done.
        elapsed_s: seconds of training.
        energy_hartree: mean.
        bracket_width_uEh: mean: the certified error (microhartree).
        best: whether this became the saved model.
        bracket_width_max_uEh: of the widest geometry (microhartree); NaN if it is not logged.
        best_bracket_width_uEh: mean of the saved model on the same geometries.
        best_bracket_width_max_uEh: the saved model's widest there.
        nvalidation: geometries; 0 where an older version did not write it down.
        nsampled: how many of them were the run's own samples.
        nframes: how many of them were given frames.
        levels: each level of theory; empty where there is one.
        worst: the molecules with the widest brackets; empty where there is one molecule.
    """

    step: int
    elapsed_s: float
    energy_hartree: float
    bracket_width_uEh: float
    best: bool
    bracket_width_max_uEh: float = math.nan
    best_bracket_width_uEh: float = math.nan
    best_bracket_width_max_uEh: float = math.nan
    nvalidation: int = 0
    nsampled: int = 0
    nframes: int = 0
    levels: tuple[LevelWidths, ...] = ()
    worst: tuple[MoleculeWidth, ...] = ()


@dataclass(frozen=True, kw_only=True)
class End:
    """A session ended in good order.

    Attributes:
        step: training steps done.
        elapsed_s: seconds of training.
        reason: why it ended.
        target_error_uEh: that was asked for; NaN where none was.
        target_worst_error_uEh: that was asked for of the worst molecule; NaN where none was.
        target_reached: whether what was asked for was reached.
    """

    step: int
    elapsed_s: float
    reason: str
    target_error_uEh: float = math.nan
    target_worst_error_uEh: float = math.nan
    target_reached: bool = False


@dataclass(kw_only=True)
class History:
    """A run so far, sessions joined.

    Attributes:
        start: the latest session's beginning; None for an empty run.
        nsessions: how often it was started or resumed.
        training: in the order of steps.
        sampling: in the order of steps.
        validation: in the order of steps.
        end: of the latest session; None while it runs, or if it was cut off.
        nrestarts: workers that died and were started again.
        nunreadable: lines left out.
        settings: of ``config.yaml``, nested; empty without one.
    """

    start: Start | None = None
    nsessions: int = 0
    training: list[Training] = field(default_factory=list)
    sampling: list[Sampling] = field(default_factory=list)
    validation: list[Validation] = field(default_factory=list)
    end: End | None = None
    nrestarts: int = 0
    nunreadable: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: object, values: dict[str, Any]) -> None:
        """Take in one line; kinds from a later version are passed over.

        Raises:
            KeyError, TypeError, ValueError: it is not what its kind should be.
        """
        if kind == "start":
            self._resume(_record(Start, values))
        elif kind == "training":
            self.training.append(_record(Training, values))
        elif kind == "sampling":
            self._sampled(_record(Sampling, values))
        elif kind == "validation":
            self.validation.append(_record(Validation, values))
        elif kind == "worker":
            self.nrestarts += 1
        elif kind == "end":
            self.end = _record(End, values)

    def _resume(self, start: Start) -> None:
        """A session continues from a checkpoint: what came after it will be done again."""
        self.start, self.end = start, None
        self.nsessions += 1
        self.training = [r for r in self.training if r.step <= start.step]
        self.sampling = [r for r in self.sampling if r.step <= start.step]
        self.validation = [r for r in self.validation if r.step <= start.step]

    def _sampled(self, record: Sampling) -> None:
        """A round at a checkpoint's own step may be there twice: the later one counts."""
        before = record.nsamples - len(record.energies_hartree)
        while self.sampling and self.sampling[-1].nsamples > before:
            self.sampling.pop()
        self.sampling.append(record)

    @property
    def last(self) -> Start | Training | Sampling | Validation | End | None:
        """The record furthest on in steps and time."""
        records: list[Start | Training | Sampling | Validation | End] = []
        records += [record for record in (self.start, self.end) if record is not None]
        records += self.training[-1:]
        records += self.sampling[-1:]
        records += self.validation[-1:]
        return max(records, key=lambda r: (r.step, r.elapsed_s), default=None)

    @property
    def certified(self) -> Validation | None:
        """The validation that the saved model was chosen by: the last of the best ones."""
        best = [record for record in self.validation if record.best]
        return best[-1] if best else None

    @property
    def certified_widths_uEh(self) -> tuple[float, float]:
        """Mean and widest bracket of the saved model, on what was held out last (microhartree).

        NaN where there is none.
        """
        certified = self.certified
        if certified is None:
            return math.nan, math.nan
        last = self.validation[-1]
        if math.isfinite(last.best_bracket_width_uEh):
            return last.best_bracket_width_uEh, last.best_bracket_width_max_uEh
        return certified.bracket_width_uEh, certified.bracket_width_max_uEh

    @property
    def resets(self) -> Counter[str]:
        """Walkers reset over the run, by reason; reasons that never came up are left out."""
        total: Counter[str] = Counter()
        for record in self.sampling:
            total.update(record.resets)
        return +total

    def late_widths_uEh(self) -> dict[int, list[float]]:
        """Brackets above zero of each molecule's samples, of the last quarter of the rounds.

        Earlier ones were sampled by a worse model.
        """
        late = self.sampling[-math.ceil(len(self.sampling) / 4) :]
        widths = by_molecule(late, "bracket_width_uEh")
        above = {molecule: [w for w in own if w > 0.0] for molecule, own in widths.items()}
        return {molecule: own for molecule, own in above.items() if own}

    def setting(self, *names: str) -> Any:
        """A setting by the path of its names; None if it is not there."""
        value: Any = self.settings
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value


def by_molecule(
    rounds: Sequence[Sampling], name: Literal["energies_hartree", "bracket_width_uEh"]
) -> dict[int, list[float]]:
    """The finite values of each molecule's samples, by its index."""
    values: dict[int, list[float]] = {}
    for record in rounds:
        for molecule, value in zip(record.molecules, getattr(record, name), strict=False):
            if math.isfinite(value):
                values.setdefault(molecule, []).append(value)
    return dict(sorted(values.items()))


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    return float(value)


_READERS: dict[str, Any] = {
    "int": int,
    "float": _number,
    "str": str,
    "bool": bool,
    "tuple[str, ...]": lambda values: tuple(map(str, values)),
    "tuple[int, ...]": lambda values: tuple(map(int, values)),
    "tuple[float, ...]": lambda values: tuple(map(_number, values)),
    "dict[str, int]": lambda values: {str(k): int(v) for k, v in values.items()},
    "tuple[LevelWidths, ...]": lambda values: tuple(_record(LevelWidths, v) for v in values),
    "tuple[MoleculeWidth, ...]": lambda values: tuple(_record(MoleculeWidth, v) for v in values),
}


def _record(cls: type[_Record], values: dict[str, Any]) -> _Record:
    """A record of the named fields; others on the line are for other readers."""
    wanted = [f for f in fields(cls) if f.name in values or f.default is MISSING]
    return cls(**{f.name: _READERS[str(f.type)](values[f.name]) for f in wanted})


def _settings(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def read_history(directory: Path) -> History:
    """Read ``metrics.jsonl`` and ``config.yaml`` of a run's directory; both may be missing."""
    history = History(settings=_settings(directory / "config.yaml"))
    try:
        text = (directory / "metrics.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    for line in filter(str.strip, text.split("\n")):
        try:
            values = json.loads(line)
            history.add(values["kind"], values)
        except (KeyError, TypeError, ValueError, AttributeError):
            history.nunreadable += 1
    return history
