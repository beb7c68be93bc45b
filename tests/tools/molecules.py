"""Molecules, states and finite differences that the tests of ``dft`` and ``models`` share."""

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule as ase_molecule
from ase.units import Bohr

from ase_srdft.dft.basis.element_basis import element_basis
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.models.layers.spherical_tensors import spherical_harmonics

#: Diatomic molecules that ASE's collection lacks (Angstrom).
BOND_LENGTHS = {"KH": 2.24, "CuH": 1.46}
#: Numbers and positions (Bohr) that are hard on a partition of space, and on integrals.
ODD_PLACES = {
    "far apart": ((8, 1, 1, 2), [[0, 0, 0], [1.8, 0, 0], [-0.4, 1.7, 0], [0, 0, 60]]),
    "close": ((8, 1), [[0, 0, 0], [0, 0, 0.95]]),
    "linear": ((6, 8, 8), [[0, 0, 0], [0, 0, 2.2], [0, 0, -2.2]]),
    "heavy": ((35, 1), [[0, 0, 0], [0, 0, 2.7]]),
}


def atoms_named(name):
    """A molecule of ASE's collection, a single atom, or what that lacks."""
    if name in BOND_LENGTHS:
        return Atoms(name, positions=[[0.0, 0.0, 0.0], [0.0, 0.0, BOND_LENGTHS[name]]])
    return Atoms(name) if name in ("He", "Ne") else ase_molecule(name)


def system(name, *, stretch=0.1, seed=0, guess="sap", potential_basis=None, **level):
    """A molecule (6-31G), and positions (1, natoms, 3) in Bohr, moved at random by ``stretch``."""
    atoms = atoms_named(name)
    molecule = Molecule(
        numbers=tuple(int(n) for n in atoms.numbers),
        level=LevelOfTheory(**{"basis": "6-31g"} | level),
        guess=guess,
        potential_basis=potential_basis,
    )
    noise = np.random.default_rng(seed).standard_normal(atoms.positions.shape)
    return molecule, torch.tensor(atoms.positions / Bohr + stretch * noise)[None]


def prepared(name, **options):
    """The geometry of :func:`system`, ready for Kohn-Sham theory."""
    return prepare(*system(name, **options))


def symmetric(*shape, seed=0):
    """A random symmetric matrix of unit scale."""
    matrix = torch.tensor(np.random.default_rng(seed).standard_normal(shape))
    return matrix + matrix.transpose(-1, -2)


def random_state(geometry, angle=0.1, seed=0):
    """Idempotent density matrix, stationary nowhere: the guess's orbitals turned at random."""
    nocc, nao = geometry.molecule.nocc, geometry.molecule.nao
    *_, vectors = occupied_projector(geometry.orthogonal(geometry.guess_fock), nocc)
    generator = np.random.default_rng(seed).standard_normal((len(geometry), nao, nao))
    turn = torch.matrix_exp(angle * torch.tensor(generator - generator.transpose(0, 2, 1)))
    occupied = (vectors.detach() @ turn)[..., :nocc]
    return geometry.density_matrix(occupied @ occupied.transpose(-1, -2))


def electron_density(quadrature, density_matrix):
    """rho = sum_mn P_mn chi_m chi_n at every point of a grid (Bohr^-3), all points at once."""
    values = quadrature.orbitals(slice(None), 0).values
    matrix = quadrature.to_grid_order(density_matrix.detach())
    return torch.einsum("bmn,bmg,bng->bg", matrix, values, values)


def slope(function, x, direction, step=1e-3):
    """Derivative of a number along a direction, by central differences of fourth order."""
    near, far = (
        float(function(x + k * step * direction)) - float(function(x - k * step * direction))
        for k in (1, 2)
    )
    return (8.0 * near - far) / (12.0 * step)


def assert_gradient(function, gradient, x, *, rtol=1e-7, step=1e-3, directions=2):
    """A gradient at x agrees with finite differences along random directions."""
    rng = np.random.default_rng(99)
    for _ in range(directions):
        direction = torch.tensor(rng.standard_normal(tuple(x.shape)))
        expected = slope(function, x, direction, step)
        assert abs(expected) > 1e-6
        np.testing.assert_allclose(float((gradient * direction).sum()), expected, rtol=rtol)


def rotation_matrix(seed=0, improper=False):
    """A random rotation, or rotation times inversion, (3, 3)."""
    matrix, triangular = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    matrix = matrix * np.sign(np.diag(triangular))
    sign = -1.0 if improper else 1.0
    return torch.tensor(matrix * np.linalg.det(matrix) * sign)


def harmonics_rotation(angular, matrix):
    """D with Y(M d) = D Y(d) for the harmonics of one l, from their values."""
    points = torch.tensor(np.random.default_rng(0).standard_normal((40, 3)))
    points = points / points.norm(dim=-1, keepdim=True)
    columns = slice(angular**2, (angular + 1) ** 2)
    here, there = (spherical_harmonics(p, angular)[:, columns] for p in (points, points @ matrix.T))
    return torch.linalg.lstsq(here, there).solution.T


def orbital_rotation(basis, numbers, matrix):
    """U, the orbitals of atoms under an orthogonal matrix; in PySCF's order p is (x, y, z)."""
    shells = [angular for n in numbers for angular in element_basis(basis, n).angular_momenta]
    return rotation_of_shells(shells, matrix)


def rotation_of_shells(shells, matrix):
    """The functions of shells of these angular momenta under an orthogonal matrix."""
    by_angular = {0: torch.eye(1, dtype=torch.float64), 1: matrix}
    by_angular |= {angular: harmonics_rotation(angular, matrix) for angular in (2, 3, 4)}
    return torch.block_diag(*(by_angular[angular] for angular in shells))
