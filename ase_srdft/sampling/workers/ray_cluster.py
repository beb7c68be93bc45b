"""The Ray cluster that samplers run on: joined or started, and shared out."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any

from ase_srdft import version
from ase_srdft.common.errors import BadInput
from ase_srdft.models.shipped_models import shipped_folder

__all__ = ["connect", "device_kind", "environment", "resources"]

#: The folder of this package.
_PACKAGE = Path(version.__file__).resolve().parent

_PROBE_SECONDS = 10.0


def connect(ray: Any) -> None:
    """Join the cluster there is, or start one of this machine alone, silently.

    Args:
        ray: the module.

    Raises:
        BadInput: there should be a cluster, but it does not answer.
    """
    # Ray's own choice, 15, would leave nothing to samplers beside a trainer on the same cores.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        _probe_address(os.environ.get("RAY_ADDRESS", ""))
        # Ray puts the folder where we are first in its workers' path: let that be one without code
        with _own_signals(), chdir(shipped_folder()):
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    except OSError as err:
        reason = " ".join(str(err).split())
        raise BadInput(
            f"cannot join the Ray cluster that RAY_ADDRESS or 'ray start' names ({reason}): start "
            "it, give this run its RAY_AUTH_MODE and token, or unset RAY_ADDRESS and run 'ray stop'"
        ) from err


def _probe_address(address: str) -> None:
    """Raise `OSError` if nobody listens at ``host:port``; Ray would retry for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_SECONDS).close()


def device_kind(device: str) -> str:
    """``cpu`` or ``cuda``; which GPU it is that a sampler gets is Ray's to say.

    Raises:
        BadInput: it is neither.
    """
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise BadInput(f"sampler device {device!r} is not supported: use 'cpu' or 'cuda'")
    return kind


def resources(kinds: Sequence[str], cluster: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """What to ask of Ray for a sampler of each kind of device, so that there is room for all.

    Args:
        kinds: of every sampler, as `device_kind` gives it.
        cluster: what there is, as ``ray.cluster_resources`` gives it.

    Raises:
        BadInput: GPUs are needed and there is none.

    Example:
        >>> resources(["cuda", "cuda", "cuda"], {"CPU": 8.0, "GPU": 2.0})["cuda"]
        {'num_cpus': 0, 'num_gpus': 0.5}
    """
    ngpus = cluster.get("GPU", 0.0)
    if "cuda" in kinds and ngpus < 1:
        raise BadInput("the Ray cluster has no GPU for samplers: set engine.sampler_devices to cpu")
    return {
        "cpu": {"num_cpus": _share(kinds.count("cpu"), cluster.get("CPU", 0.0))},
        "cuda": {"num_cpus": 0, "num_gpus": _share(kinds.count("cuda"), ngpus)},
    }


def _share(nsamplers: int, available: float) -> float:
    return 1.0 / max(1, math.ceil(nsamplers / max(1, math.floor(available))))


def environment() -> dict[str, str]:
    """Of a sampler: one thread, and this source tree if the package is not installed."""
    variables = {"OMP_NUM_THREADS": "1"}
    root = _PACKAGE.parent
    installed = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    if root not in installed:
        variables["PYTHONPATH"] = f"{root}{os.pathsep}${{PYTHONPATH}}"
    return variables


@contextmanager
def _own_signals() -> Iterator[None]:
    """SIGTERM stays ours, and what is sent to the whole group does not end Ray's processes.

    Ray puts a handler of its own in the place of any other; the processes that it starts inherit
    the mask of signals, and would end by those that ask a run to stop.
    """
    handler = signal.getsignal(signal.SIGTERM)
    group = {signal.SIGINT, signal.SIGUSR1, signal.SIGHUP}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, group)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
