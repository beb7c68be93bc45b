"""Which machine measured a number."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def machine_name() -> str:
    """Processor, cores that this process may use, Python and torch, and the GPU if there is one."""
    import torch

    parts = [f"{_processor()}, {len(os.sched_getaffinity(0))} cores"]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts += [f"Python {platform.python_version()}", f"torch {torch.__version__.split('+')[0]}"]
    return ", ".join(parts)


def _processor() -> str:
    """The model's name as Linux gives it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
