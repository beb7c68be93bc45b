"""Where tensors live, by name."""

from __future__ import annotations

import torch

from ase_srdft.common.errors import BadInput

__all__ = ["torch_device"]

_SUPPORTED = ("cpu", "cuda")


def torch_device(name: str) -> torch.device:
    """The device of a name (``cpu``, ``cuda``, ``cuda:1``), made sure that it is there.

    Raises:
        BadInput: no device of this name, or none that this machine has.
    """
    try:
        device = torch.device(name)
        torch.empty(0, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as err:
        reason = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
        raise BadInput(f"device {name!r} cannot be used ({reason}): use 'cpu' or 'cuda'") from None
    if device.type not in _SUPPORTED:
        raise BadInput(f"device {name!r} is not supported: use 'cpu' or 'cuda'")
    return device
