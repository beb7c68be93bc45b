"""The level of theory: what a Kohn-Sham energy of ours is an energy *of*."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from ase_srdft.common.errors import BadInput

__all__ = ["ANSWER_GRID_LEVEL", "FUNCTIONALS", "Functional", "LevelOfTheory"]


@dataclass(frozen=True, kw_only=True)
class Functional:
    """An exchange-correlation functional as a sum of named terms.

    Attributes:
        terms: (name in `ase_srdft.dft.xc.functionals.TERMS`, weight) pairs.
        exact_exchange: fraction a of exact exchange.
        needs_gradient: whether any term depends on the density gradient.
    """

    terms: tuple[tuple[str, float], ...]
    exact_exchange: float
    needs_gradient: bool

    @property
    def pyscf_name(self) -> str:
        """The same functional in PySCF's words, for the reference SCF."""
        parts: dict[bool, list[str]] = {True: [], False: []}  # whether it is exchange
        for name, weight in self.terms:
            word = name.removesuffix("_x").removesuffix("_c")
            parts[name in _EXCHANGES].append(f"{weight}*{word}")
        if self.exact_exchange > 0:
            parts[True].append(f"{self.exact_exchange}*hf")
        return ",".join("+".join(parts[of_exchange]) for of_exchange in (True, False))

    @property
    def companion(self) -> Functional:
        """The functional with density-functional exchange in the place of exact exchange.

        The exchange of its own that knows the gradient takes it over, or Slater's.
        """
        if self.exact_exchange == 0:
            return self
        ((heir, _),) = self.local_exchange.terms
        terms = tuple((n, w + self.exact_exchange * (n == heir)) for n, w in self.terms)
        return replace(self, terms=terms, exact_exchange=0.0)

    @property
    def local_exchange(self) -> Functional:
        """What stands for exact exchange in the companion, all of it."""
        names = [name for name, _ in self.terms]
        heir = next(name for name in _EXCHANGES if name in names)
        return replace(self, terms=((heir, 1.0),), exact_exchange=0.0)


#: Terms that are exchange alone, the better first.
_EXCHANGES = ("pbe_x", "b88", "slater")
FUNCTIONALS: dict[str, Functional] = {
    "LDA": Functional(
        terms=(("slater", 1.0), ("vwn5", 1.0)),
        exact_exchange=0.0,
        needs_gradient=False,
    ),
    "PBE": Functional(
        terms=(("pbe_x", 1.0), ("pbe_c", 1.0)),
        exact_exchange=0.0,
        needs_gradient=True,
    ),
    "BLYP": Functional(
        terms=(("b88", 1.0), ("lyp", 1.0)),
        exact_exchange=0.0,
        needs_gradient=True,
    ),
    "PBE0": Functional(
        terms=(("pbe_x", 0.75), ("pbe_c", 1.0)),
        exact_exchange=0.25,
        needs_gradient=True,
    ),
    # VWN fitted to the RPA ("VWN3" of Gaussian): what Gaussian, libxc and PySCF >= 2.3 call B3LYP.
    "B3LYP": Functional(
        terms=(("slater", 0.08), ("b88", 0.72), ("lyp", 0.81), ("vwn_rpa", 0.19)),
        exact_exchange=0.20,
        needs_gradient=True,
    ),
    # VWN fitted to quantum Monte Carlo ("VWN5"): what ORCA and Turbomole call B3LYP.
    "B3LYP5": Functional(
        terms=(("slater", 0.08), ("b88", 0.72), ("lyp", 0.81), ("vwn5", 0.19)),
        exact_exchange=0.20,
        needs_gradient=True,
    ),
}
#: PySCF's level of the grid that answers are on where nobody says: forces to a meV/Å.  Training is
#: on that of `LevelOfTheory`, which is cheaper.
ANSWER_GRID_LEVEL = 2
_ALIASES = {"SVWN": "LDA", "SVWN5": "LDA", "PBEPBE": "PBE", "PBE1PBE": "PBE0", "B3LYPG": "B3LYP"}


@dataclass(frozen=True, kw_only=True)
class LevelOfTheory:
    """Restricted Kohn-Sham theory in a Gaussian basis; everything the energy depends on but R.

    Attributes:
        xc: functional: LDA, PBE, BLYP, PBE0, B3LYP or B3LYP5; case does not matter.  LDA is
            Slater exchange with VWN5; B3LYP has VWN-RPA as in Gaussian and PySCF, B3LYP5 VWN5.
        basis: basis set by any name that PySCF knows; s, p, d and f functions, spherical.
        density_fitting: True for the default auxiliary basis, the name of another one, or False
            for exact four-centre integrals.  The default is def2-universal-jfit without exact
            exchange, def2-universal-jkfit with it.
        grid_level: PySCF's grid level, 0 to 9.
        charge: total charge of the molecule in e.

    Closed shells only: open shells are refused where the molecule is known
    (:class:`ase_srdft.dft.molecule.Molecule`).

    Raises:
        BadInput: unknown functional, grid level out of range, a value of the wrong type.
    """

    xc: str = "PBE"
    basis: str = "def2-svp"
    density_fitting: bool | str = True
    grid_level: int = 1
    charge: int = 0

    def __post_init__(self) -> None:
        name = str(self.xc).upper().replace("-", "").replace("_", "")
        name = _ALIASES.get(name, name)
        if name not in FUNCTIONALS:
            raise BadInput(f"unknown xc {self.xc!r}: use one of {', '.join(FUNCTIONALS)}")
        object.__setattr__(self, "xc", name)
        if type(self.grid_level) is not int or self.grid_level not in range(10):
            raise BadInput(f"grid level {self.grid_level!r}: use a whole number from 0 to 9")
        if type(self.charge) is not int:
            raise BadInput(f"charge {self.charge!r}: use a whole number of elementary charges")
        if not isinstance(self.density_fitting, bool | str) or self.density_fitting == "":
            raise BadInput(
                f"density_fitting {self.density_fitting!r}: use True, False or the name of an "
                "auxiliary basis"
            )
        object.__setattr__(self, "basis", str(self.basis).lower())

    @property
    def functional(self) -> Functional:
        """The functional's terms and weights."""
        return FUNCTIONALS[self.xc]

    @property
    def auxiliary_basis(self) -> str | None:
        """Name of the auxiliary basis of density fitting; None for exact integrals."""
        if self.density_fitting is False:
            return None
        if isinstance(self.density_fitting, str):
            return self.density_fitting
        hybrid = self.functional.exact_exchange > 0
        return "def2-universal-jkfit" if hybrid else "def2-universal-jfit"

    def to_dict(self) -> dict[str, str | bool | int]:
        """Plain values, for JSON; ``LevelOfTheory(**level.to_dict())`` is the level again."""
        return asdict(self)

    def __str__(self) -> str:
        fitting = self.auxiliary_basis or "exact integrals"
        return f"{self.xc}/{self.basis} ({fitting}, grid level {self.grid_level})"
