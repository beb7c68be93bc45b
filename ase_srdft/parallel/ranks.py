"""Several processes that train one model together, each on its own device: who does what.

Every rank holds the same weights, buffer and random state, and evaluates only its share of each
batch.  What depends on the clock, on signals or on samplers is decided by the first rank, the
lead rank, and sent to the others, so that all of them do the same.  Small values go over gloo on
the CPU; gradients go over NCCL between GPUs.  Every wait ends after a time.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar, cast
from warnings import catch_warnings, filterwarnings

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ase_srdft.common.errors import BadInput, RankLost

__all__ = ["Ranks"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_LONGEST_SECONDS = 1e6
#: For gloo's threads to drop what they hold, which takes them microseconds.
_DROPPING_SECONDS = 0.1
#: Set by torchrun for each of its processes.
_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


class _WithUnused(nn.Module):
    """A module with one more parameter, which nothing uses.

    Whether a share leaves parameters unused differs from batch to batch; of one that leaves none,
    torch would say on standard error that it need not have been told to look.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.module = module
        self.unused = nn.Parameter(torch.zeros((), device=device))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)


class Ranks:
    """The ranks of a run as one of them sees them; by default it is the only one.

    With one rank every method hands back what it is given and nothing waits.

    Args:
        rank: which one this is, from 0.
        size: how many there are.
        local_rank: which one of its machine this is.
        timeout_seconds: how long to wait for another rank.
    """

    def __init__(
        self, rank: int = 0, size: int = 1, local_rank: int = 0, timeout_seconds: float = 1800.0
    ) -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.timeout_seconds = timeout_seconds

    @classmethod
    def single(cls) -> Ranks:
        """The ordinary case: one process."""
        return cls()

    @classmethod
    def from_environment(cls, timeout_seconds: float = 1800.0) -> Ranks:
        """As torchrun says in the environment; a single one where it says nothing.

        Args:
            timeout_seconds: how long to wait for another rank; the lead rank may need as long for a
                batch of samples, a checkpoint or the report.

        Raises:
            BadInput: the environment names ranks, but not as torchrun does; no usable timeout.
            RankLost: the others did not come in time.
        """
        if not 0.0 < timeout_seconds < _LONGEST_SECONDS:
            raise BadInput(
                f"the ranks' timeout is {timeout_seconds:g} s: use more than 0, up to 1e6"
            )
        rank, size, local_rank = _places(os.environ)
        ranks = cls(rank, size, local_rank, timeout_seconds)
        if size > 1:
            with ranks.waiting():
                dist.init_process_group("gloo", timeout=ranks._timeout)
        return ranks

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the others."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()
            # a thread of gloo's drops its last tensor after the others have been told that all is
            # done, and needs Python's lock for it: at the end of the interpreter that would abort
            time.sleep(_DROPPING_SECONDS)

    @property
    def is_lead(self) -> bool:
        """Whether this one samples, writes and speaks for all."""
        return self.rank == 0

    @property
    def _timeout(self) -> timedelta:
        return timedelta(seconds=self.timeout_seconds)

    def device_name(self, name: str) -> str:
        """The device of this rank: of several, ``cuda`` means to each the GPU of its own.

        Raises:
            BadInput: one GPU for all.
        """
        if self.size == 1 or not name.startswith("cuda"):
            return name
        if name != "cuda":
            raise BadInput(f"device {name!r} for {self.size} ranks: use 'cuda', one GPU for each")
        return f"cuda:{self.local_rank}"

    def check_batch_size(self, batch_size: int) -> None:
        """Make sure that every rank gets a share.

        Raises:
            BadInput: there are more ranks than geometries in a batch.
        """
        if batch_size < self.size:
            raise BadInput(
                f"optimiser.batch_size is {batch_size}: use at least as many as there are ranks "
                f"({self.size}), or fewer ranks"
            )

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model, made to average its gradients over the ranks; the weights are rank 0's.

        Shares may lack an element, and with it have no gradient for its parameters.
        """
        if self.size == 1:
            return model
        group = None
        device = next(model.parameters()).device
        with self.waiting():
            if device.type == "cuda":
                torch.cuda.set_device(device)
                group = dist.new_group(backend="nccl", timeout=self._timeout)
            with catch_warnings():  # torch 2.13 would have another name, which 2.6 has not
                filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                return DistributedDataParallel(
                    _WithUnused(model, device),
                    process_group=group,
                    broadcast_buffers=False,
                    find_unused_parameters=True,
                )

    def shares(
        self, items: Sequence[_Item], content: Callable[[_Item], np.ndarray]
    ) -> list[list[_Item]]:
        """The items of each rank, in numbers that differ by one at most.

        The same content goes to the same rank each time, as far as the numbers allow: what a rank
        has prepared is there.
        """
        if self.size == 1:
            return [list(items)]
        ordered = sorted(items, key=lambda item: zlib.crc32(content(item).tobytes()) % self.size)
        bounds = [len(ordered) * rank // self.size for rank in range(self.size + 1)]
        return [ordered[start:stop] for start, stop in pairwise(bounds)]

    def shares_of_equal_cost(
        self, items: Sequence[_Item], cost: Callable[[_Item], float]
    ) -> list[list[_Item]]:
        """The items of each rank, of nearly equal cost (above 0), wherever they have been.

        The costliest go first, each to the rank that has least; every rank gets one, if there are
        as many.
        """
        if self.size == 1:
            return [list(items)]
        shares: list[list[_Item]] = [[] for _ in range(self.size)]
        costs = [0.0] * self.size
        for item in sorted(items, key=cost, reverse=True):
            rank = costs.index(min(costs))
            shares[rank].append(item)
            costs[rank] += cost(item)
        return shares

    def broadcast(self, value: _Result) -> _Result:
        """The lead rank's value, which must be small, on every rank."""
        if self.size == 1:
            return value
        box = [value if self.is_lead else None]
        with self.waiting():
            dist.broadcast_object_list(box, src=0)
        return cast(_Result, box[0])

    def gather(self, value: _Result) -> list[_Result]:
        """The small values of all ranks, in order."""
        if self.size == 1:
            return [value]
        box: list[Any] = [None] * self.size
        with self.waiting():
            dist.all_gather_object(box, value)
        return box

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        return any(self.gather(flag))

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """The sum over the ranks."""
        parts = self.gather(numbers)
        return parts[0] if self.size == 1 else np.sum(parts, axis=0)

    def gather_pairs(self, values: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor] | None:
        """Two lists of numbers, each with those of the other ranks, rank 0's first.

        Of several ranks they are on the CPU and without gradient.

        Returns:
            None if any rank has none.
        """
        if self.size == 1:
            return values
        gathered = self.gather(None if values is None else [value.tolist() for value in values])
        parts = [part for part in gathered if part is not None]
        if len(parts) < self.size:
            return None
        first, second = (
            torch.tensor([number for part in parts for number in part[place]], dtype=torch.float64)
            for place in (0, 1)
        )
        return first, second

    def check_same(self, value: object, what: str) -> None:
        """Make sure that all ranks have the same of something that JSON can write.

        Raises:
            BadInput: a rank has another value than the lead rank.
        """
        own = json.dumps(value, sort_keys=True)
        other = [rank for rank, theirs in enumerate(self.gather(own)) if theirs != own]
        if other:
            raise BadInput(
                f"rank {self.rank} and rank {other[0]} have not the same {what}: start all ranks "
                "with the same command and the same files"
            )

    def run_on_all(self, work: Callable[[], _Result]) -> _Result:
        """Run the same work on every rank; `BadInput` on one of them is raised on all.

        Raises:
            BadInput: of the first rank that has one.
        """
        if self.size == 1:
            return work()
        error: BadInput | None = None
        try:
            result = work()
        except BadInput as err:
            error = err
        reasons = self.gather(None if error is None else str(error))
        for rank, reason in enumerate(reasons):
            if reason is not None:
                raise BadInput(f"rank {rank}: {reason}" if rank > 0 else reason) from error
        return result

    def run_on_lead(
        self,
        work: Callable[[], _Result],
        sent: Callable[[_Result], _Result] = lambda result: result,
    ) -> _Result:
        """Run work on the lead rank alone; all get its result, or its exception.

        Args:
            work: done by the lead rank.
            sent: what the others get of its result.
        """
        if self.size == 1:
            return work()
        if not self.is_lead:
            result, error = self.broadcast(cast(tuple[_Result, Exception | None], None))
            if error is not None:
                raise error
            return result
        try:
            result = work()
        except Exception as err:
            self.broadcast((None, err))
            raise
        self.broadcast((sent(result), None))
        return result

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Where other ranks are waited for.

        Raises:
            RankLost: one of them has ended, or did not come in time.
        """
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as err:  # of gloo and NCCL alike
            if self.size == 1:
                raise
            reason = (str(err).splitlines() or [type(err).__name__])[0]
            raise RankLost(
                f"rank {self.rank} of {self.size} lost another, which has ended or was silent for "
                f"{self.timeout_seconds:g} s ({reason}): see what that one said; the same command "
                "goes on from the last checkpoint"
            ) from err


def _places(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, number of ranks, and rank on this machine."""
    if "WORLD_SIZE" not in environment:
        return 0, 1, 0
    missing = [name for name in _VARIABLES if name not in environment]
    if missing:
        raise BadInput(
            f"WORLD_SIZE is set, but not {', '.join(missing)}: start with torchrun, or unset it"
        )
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    words = [environment[name] for name in names]
    if not all(word.isdecimal() for word in words) or int(words[0]) >= int(words[1]):
        given = ", ".join(f"{n}={w!r}" for n, w in zip(names, words, strict=True))
        raise BadInput(f"{given} names no rank: start with torchrun")
    rank, size, local_rank = map(int, words)
    return rank, size, local_rank
