"""Becke's weights and their adjoint on arrays of NumPy; the equations are in source/becke.cpp."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ase_srdft.dft.kernels.arrays import call, pointer
from ase_srdft.dft.kernels.library import thread_count

__all__ = ["Partition", "becke_adjoint", "becke_weights"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """A molecule's grid before the nuclei are placed, in blocks of 128 points.

    Attributes:
        adjustment: a_ij of the partition.
        offsets: of the points from the atoms that own them (Bohr).
        owners: the atom of each block.
        volumes: weights of the free atoms (Bohr^3).
    """

    adjustment: Float[np.ndarray, "natoms natoms"]
    offsets: Float[np.ndarray, "3 npoints"]
    owners: Int[np.ndarray, " nblocks"]
    volumes: Float[np.ndarray, " npoints"]

    def arguments(self) -> tuple[object, ...]:
        """What both kernels read first."""
        sizes = (ctypes.c_int(len(self.adjustment)), ctypes.c_int(len(self.owners)))
        arrays = (self.adjustment, self.offsets)
        return (*sizes, *map(pointer, arrays), pointer(self.owners, np.int32))


def becke_weights(
    library: ctypes.CDLL, partition: Partition, positions: Float[np.ndarray, "natoms 3"]
) -> Float[np.ndarray, " npoints"]:
    """Quadrature weights (Bohr^3) at nuclei (Bohr)."""
    weights = np.empty_like(partition.volumes)
    call(
        library,
        "srdft_becke_weights",
        *partition.arguments(),
        pointer(partition.volumes),
        pointer(positions),
        ctypes.c_int(thread_count()),
        pointer(weights),
    )
    return weights


def becke_adjoint(
    library: ctypes.CDLL,
    partition: Partition,
    positions: Float[np.ndarray, "natoms 3"],
    weights: Float[np.ndarray, " npoints"],
    cotangents: Float[np.ndarray, " npoints"],
) -> Float[np.ndarray, "natoms 3"]:
    """Gradient by the nuclei of sum(cotangents * weights), points moving with their owners."""
    gradient = np.empty_like(positions)
    call(
        library,
        "srdft_becke_adjoint",
        *partition.arguments(),
        pointer(weights),
        pointer(cotangents),
        pointer(positions),
        ctypes.c_int(thread_count()),
        pointer(gradient),
    )
    return gradient
