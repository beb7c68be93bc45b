"""How far a force moves each coordinate of a walker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["Mobility"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mobility:
    """A constant mobility M of the 3·natoms coordinates, kept as its symmetric square root.

    Attributes:
        square_root: M^(1/2) as a number (times the identity), a diagonal ``(3*natoms,)``, a
            matrix ``(3*natoms, 3*natoms)`` shared by the walkers, or one matrix per walker
            ``(nwalkers, 3*natoms, 3*natoms)``.  Directions in its kernel never move.
    """

    square_root: Float[np.ndarray, "*mobility"]

    @classmethod
    def identity(cls) -> Mobility:
        """M = 1: every coordinate moves alike."""
        return cls(square_root=np.ones(()))

    @classmethod
    def from_matrix(cls, matrix: Float[np.ndarray, "*mobility"]) -> Mobility:
        """The mobility whose M is ``matrix``, in any of the four forms of ``square_root``.

        Raises:
            ValueError: ``matrix`` is not symmetric, or not positive semidefinite.
        """
        if matrix.ndim < 2:
            eigenvalues, eigenvectors = matrix, None
        else:
            if not np.allclose(matrix, matrix.swapaxes(-1, -2), rtol=1e-8, atol=0.0):
                asymmetry = np.abs(matrix - matrix.swapaxes(-1, -2)).max()
                raise ValueError(
                    f"the mobility differs from its transpose by up to {asymmetry:g}; "
                    "give a symmetric matrix"
                )
            eigenvalues, eigenvectors = np.linalg.eigh(matrix)
        if eigenvalues.min(initial=0.0) < -1e-10 * np.abs(eigenvalues).max(initial=0.0):
            raise ValueError(
                f"the mobility has the eigenvalue {eigenvalues.min():g}; none may be negative"
            )
        roots = np.sqrt(np.maximum(eigenvalues, 0.0))
        if eigenvectors is None:
            return cls(square_root=roots)
        return cls(square_root=(eigenvectors * roots[..., None, :]) @ eigenvectors.swapaxes(-1, -2))

    @property
    def matrix(self) -> Float[np.ndarray, "*mobility"]:
        """M itself, in the form of ``square_root``."""
        root = self.square_root
        square: np.ndarray = root * root if root.ndim < 2 else root @ root
        return square

    def apply_square_root(
        self, vectors: Float[np.ndarray, "nwalkers natoms 3"]
    ) -> Float[np.ndarray, "nwalkers natoms 3"]:
        """M^(1/2) v for each walker's vector v."""
        flat = vectors.reshape(len(vectors), -1)
        root = self.square_root
        moved: np.ndarray = root * flat if root.ndim < 2 else (root @ flat[:, :, None])[:, :, 0]
        return moved.reshape(vectors.shape)
