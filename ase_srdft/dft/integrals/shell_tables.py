"""libcint's tables of shells on nuclei, and the one call that evaluates an integral."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ase_srdft.common.elements import chemical_symbols
from ase_srdft.dft.basis.guess_tables import atomic_potential

__all__ = ["Array", "Centres", "JointTables", "charge_tables", "symmetric"]

Array = NDArray[np.float64]
#: Where libcint keeps the origin of 1/r.
_RINV_ORIGIN = slice(4, 7)


class Centres:
    """libcint's tables of one basis on the nuclei of the molecule."""

    def __init__(self, numbers: tuple[int, ...], shells: dict[int, Any]) -> None:
        from pyscf import gto

        atoms = [(chemical_symbols[n], (0.0, 0.0, float(i))) for i, n in enumerate(numbers)]
        basis = {chemical_symbols[n]: s for n, s in shells.items()}
        mol = gto.Mole()
        mol._atm, mol._bas, mol._env = mol.make_env(atoms, basis, np.zeros(gto.mole.PTR_ENV_START))
        self.tables = (mol._atm, mol._bas, mol._env)
        self.nbas = len(mol._bas)
        location = gto.moleintor.make_loc(mol._bas, "sph")
        self.nao = int(location[-1])
        owners = np.repeat(mol._bas[:, 0], np.diff(location))
        self._by_atom = np.zeros((len(numbers), self.nao))
        self._by_atom[owners, np.arange(self.nao)] = 1.0

    def sum_by_atom(self, by_orbital: Array) -> Array:
        """Add up the rows (nao, ...) of each atom's orbitals."""
        result: Array = self._by_atom @ by_orbital
        return result


class JointTables:
    """Several bases in one table, with coordinates to be filled in."""

    def __init__(self, *parts: Centres) -> None:
        from pyscf import gto

        atm, bas, env = parts[0].tables
        for part in parts[1:]:
            atm, bas, env = gto.conc_env(atm, bas, env, *part.tables)
        self.atm, self.bas, self.env = atm, bas, env
        self.ncopies = len(parts)
        self.first_shells = np.cumsum([0, *[part.nbas for part in parts]])

    def shells(self, *which: int) -> tuple[int, ...]:
        """Shell slice of the given parts, in libcint's flat form."""
        return tuple(int(self.first_shells[i + end]) for i in which for end in (0, 1))

    def environment(self, positions: Array, rinv_atom: int | None = None) -> Array:
        """The parameter array with nuclei (and the origin of 1/r) in place."""
        env: Array = self.env.copy()
        repeated = np.tile(positions, (self.ncopies, 1))
        env[self.atm[:, 1][:, None] + np.arange(3)] = repeated
        if rinv_atom is not None:
            env[_RINV_ORIGIN] = positions[rinv_atom]
        return env

    def intor(
        self,
        name: str,
        env: Array,
        parts: tuple[int, ...],
        comp: int = 1,
        aosym: str = "s1",
    ) -> Array:
        """An integral between the shells of some of the parts."""
        from pyscf import gto

        result: Array = gto.moleintor.getints(
            name, self.atm, self.bas, env, self.shells(*parts), comp, aosym=aosym
        )
        return result


def symmetric(matrix: Array) -> Array:
    """Its symmetric part."""
    return 0.5 * (matrix + matrix.T)


def charge_tables(numbers: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """libcint tables with one contracted Gaussian charge per atom (the guess ``sap``)."""
    from pyscf import gto

    tables: list[Any] | None = None
    for number in numbers:
        rows = np.array(atomic_potential(number))
        charge = gto.mole.fakemol_for_cgtf_charge(np.zeros((1, 3)), rows[:, 0], rows[:, 1])
        new = [charge._atm, charge._bas, charge._env]
        tables = new if tables is None else list(gto.conc_env(*tables, *new))
    assert tables is not None
    return tables[0], tables[1], tables[2]
