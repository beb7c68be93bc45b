"""The figures of the pages that explain: a bracket, a state as a potential, self-refining.

    python benchmarks/explanation_figures.py
    python benchmarks/explanation_figures.py --only bracket --output .

Each is drawn from what the code computes, in some seconds (``self-refining`` in a minute), and
prints the numbers that its page names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _common import benchmark_parser, bohr, numbers_of
from ase import Atoms, units
from ase.build import molecule as ase_molecule

from ase_srdft import OverdampedLangevin, SelfRefiningLangevin, SRDFTCalculator
from ase_srdft.common.units import EV_PER_HARTREE
from ase_srdft.dft.energy import kohn_sham
from ase_srdft.dft.energy_bracket import energy_bracket
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.dft.preparation import prepare
from ase_srdft.dft.prepared_geometry import Geometry
from ase_srdft.dft.projector import occupied_projector
from ase_srdft.dft.reference_scf import mean_field, reference_scf
from ase_srdft.models.electronic_state import ElectronicStateModel
from ase_srdft.models.model_file import build_model, load_model
from ase_srdft.models.potential.potential_model import PotentialModel
from ase_srdft.models.shipped_models import model_path
from ase_srdft.models.single_point import molecule_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8C8C8C"
LEVEL = LevelOfTheory(xc="PBE", basis="def2-svp")
#: Shares of the way from the guess's Fock matrix to the SCF's; beyond 1 it goes too far.
SHARES = np.concatenate([np.linspace(0.0, 0.95, 20), 1 - np.geomspace(0.03, 0.001, 6), [1.0]])
SHARES = np.concatenate([SHARES, np.linspace(1.05, 1.6, 12)])


def new_figure(width: float, height: float) -> Figure:
    """In the style of all of them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"font.size": 9, "svg.hashsalt": "ase_srdft"})
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """White behind, so that it can be read on a dark page."""
    figure.savefig(path, facecolor="white", metadata={"Date": None})
    print(f"wrote {path.name}")


def brackets(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Error and width (eV) of the states between the guess and the SCF, and beyond."""
    molecule = Molecule(numbers=numbers_of(atoms), level=LEVEL, guess="roothaan")
    geometry = prepare(molecule, bohr(atoms))
    reference = reference_scf(molecule, bohr(atoms)[0].numpy())
    guess, converged = geometry.guess_fock, torch.tensor(reference.fock)[None]
    errors, widths = [], []
    for share in SHARES:
        fock = geometry.orthogonal(guess + share * (converged - guess))
        matrix = geometry.density_matrix(occupied_projector(fock, molecule.nocc)[0])
        energies, own_fock = kohn_sham(geometry, matrix)
        width = energy_bracket(geometry, energies.total, matrix, own_fock).width
        errors.append(EV_PER_HARTREE * (float(energies.total) - reference.energy))
        widths.append(EV_PER_HARTREE * float(width))
    return np.array(errors), np.array(widths)


def draw_bracket(output: Path) -> None:
    """Energy and lower bound on the way from the guess to the SCF, and both errors."""
    errors, widths = brackets(ase_molecule("CH3CH2OH"))
    figure = new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    left.fill_between(SHARES, errors - widths, errors, color=BLUE, alpha=0.15, lw=0)
    left.plot(SHARES, errors, color=BLUE, label="energy of the state: upper end")
    left.plot(SHARES, errors - widths, color=ORANGE, label="lower end")
    left.axhline(0.0, color="k", lw=0.8, ls="--", label="SCF energy")
    left.set(xlabel="way from the guess to the SCF", ylabel="energy − SCF energy / eV")
    left.legend(frameon=False, fontsize=8)
    inside = SHARES < 1.0
    distance = 1.0 - SHARES[inside]
    right.loglog(distance, widths[inside], "o-", color=ORANGE, ms=3, label="width of the bracket")
    right.loglog(distance, errors[inside], "o-", color=BLUE, ms=3, label="true error")
    right.axhline(1e-3, color=GREY, lw=0.8, ls=":")
    right.text(1.0, 0.8e-3, "1 meV", color=GREY, ha="right", va="top")
    right.set(xlabel="distance from the SCF, of that of the guess", ylabel="eV")
    right.legend(frameon=False, fontsize=8)
    save(figure, output / "bracket.svg")
    ratio = np.median(errors[inside] / widths[inside])
    print(f"error of the guess {errors[0]:.2f} eV, of its bracket {widths[0]:.2f}")
    print(f"error over width, median: {ratio:.2f}; inside: {np.all(errors <= widths + 1e-8)}")


class Plane:
    """Points in the plane of a flat molecule, and functions on them.

    Args:
        atoms: in the plane x = 0.
        width: of the square (Å).
        npoints: on each side.
    """

    def __init__(self, atoms: Atoms, width: float = 5.6, npoints: int = 141) -> None:
        numbers = numbers_of(atoms)
        self.atoms, self.half = atoms, width / 2
        molecule = Molecule(numbers=numbers, level=LEVEL, guess="minao")
        self.mol: Any = mean_field(molecule, bohr(atoms)[0].numpy()).mol
        line = np.linspace(-self.half, self.half, npoints)
        centre = atoms.positions.mean(0)
        y, z = np.meshgrid(line + centre[1], line + centre[2], indexing="xy")
        self.points = np.stack([np.zeros(y.size), y.ravel(), z.ravel()], -1) / units.Bohr
        self.centre, self.shape = centre, y.shape

    def density(self, matrix: np.ndarray) -> np.ndarray:
        """Of a density matrix (e/Bohr³)."""
        orbitals = self.mol.eval_gto("GTOval_sph", self.points)
        found: np.ndarray = np.einsum("gm,mn,gn->g", orbitals, matrix, orbitals, optimize=True)
        return found.reshape(self.shape)

    def potential(self, coefficients: np.ndarray, basis: str) -> np.ndarray:
        """Energy (Hartree) of an electron beside auxiliary functions with these coefficients."""
        from pyscf import df, gto

        auxiliary = df.addons.make_auxmol(self.mol, basis)
        charges = gto.fakemol_for_charges(self.points)
        integrals = gto.intor_cross("int2c2e", charges, auxiliary)
        return np.asarray(integrals @ coefficients).reshape(self.shape)

    def show(self, axis: Axes, values: np.ndarray, largest: float, title: str) -> Any:
        """A map of values, red where positive, with the nuclei."""
        extent = (-self.half, self.half, -self.half, self.half)
        image = axis.imshow(
            values, origin="lower", extent=extent, cmap="RdBu_r", vmin=-largest, vmax=largest
        )
        for symbol, position in zip(self.atoms.symbols, self.atoms.positions, strict=True):
            place = position - self.centre
            axis.text(place[1], place[2], symbol, ha="center", va="center", fontsize=9)
        axis.set(title=title, xticks=[], yticks=[])
        return image


def state(model: ElectronicStateModel, atoms: Atoms) -> tuple[Geometry, np.ndarray, float]:
    """Geometry, density matrix and bracket (eV) of a model by itself."""
    molecule = molecule_of(model, numbers_of(atoms), LEVEL)
    with torch.no_grad():
        geometry = prepare(molecule, bohr(atoms))
        matrix = model([geometry])[0].density_matrix
        energies, fock = kohn_sham(geometry, matrix)
        width = energy_bracket(geometry, energies.total, matrix, fock).width
    return geometry, matrix[0].numpy(), EV_PER_HARTREE * float(width)


def draw_state(output: Path) -> None:
    """What the guess gets wrong, the potential that a model adds, and what is left."""
    atoms = ase_molecule("H2CO")
    trained = load_model(model_path("organics")).model.at_level(LEVEL)
    assert isinstance(trained, PotentialModel)
    plain = build_model("potential", LEVEL, trained.elements, {}).double()
    geometry, matrix, width = state(trained, atoms)
    _, guess_matrix, guess_width = state(plain, atoms)
    reference = reference_scf(geometry.molecule, bohr(atoms)[0].numpy())
    with torch.no_grad():
        coefficients = trained.coefficients([geometry])[0][0].numpy()
    plane = Plane(atoms)
    converged = plane.density(reference.density_matrix)
    wrong = plane.density(guess_matrix) - converged
    left = plane.density(matrix) - converged
    potential = EV_PER_HARTREE * plane.potential(coefficients, trained.potential_basis)
    figure = new_figure(8.4, 2.9)
    axes = figure.subplots(1, 3)
    largest = 0.02
    plane.show(axes[0], wrong, largest, f"guess: density − SCF's\nbracket {guess_width:.2g} eV")
    volts = plane.show(axes[1], potential, 2.0, "the potential that\nthe model adds")
    title = f"model: density − SCF's\nbracket {1e3 * width:.2g} meV"
    density = plane.show(axes[2], left, largest, title)
    figure.colorbar(volts, ax=axes[1], label="eV", shrink=0.9)
    figure.colorbar(density, ax=axes[2], label="e/Bohr³", shrink=0.9)
    save(figure, output / "state.png")
    print(f"bracket of the guess {guess_width:.3f} eV, of the model {1e3 * width:.2f} meV")
    print(f"largest error of the density {abs(wrong).max():.3f} and {abs(left).max():.4f} e/Bohr³")
    print(f"largest potential {abs(potential).max():.2f} eV; {len(coefficients)} numbers")


def widths_along(learns: bool, nsteps: int) -> tuple[list[float], int]:
    """Bracket of the model by itself (eV) at every step, and the training steps that were made."""
    atoms = ase_molecule("H2O")
    torch.manual_seed(0)  # of the weights to begin with
    model = build_model("potential", LevelOfTheory(basis="6-31g"), (1, 8), {})
    atoms.calc = SRDFTCalculator(model.double())
    settings: dict[str, Any] = {"timestep": 0.5 * units.fs, "temperature_K": 500, "rng": 0}
    found: list[float] = []
    if not learns:
        plain = OverdampedLangevin(atoms, **settings)
        plain.attach(lambda: found.append(atoms.calc.certificate.start_error), interval=1)
        plain.run(nsteps)
        return found, 0
    with SelfRefiningLangevin(atoms, trainer_runs="in_turn", train_interval=5, **settings) as dyn:
        dyn.attach(lambda: found.append(atoms.calc.certificate.start_error), interval=1)
        dyn.run(nsteps)
        return found, int(dyn.background_trainer.nsteps)


def draw_circle(axis: Axes) -> None:
    """What turns around in self-refining training."""
    words = [
        (0.5, 0.88, "model\nwith weights θ"),
        (0.84, 0.5, "its energy\nE(R) and forces"),
        (0.5, 0.12, "dynamics meets\nnew geometries"),
        (0.16, 0.5, "training lowers\nE at these"),
    ]
    axis.set(xlim=(0, 1), ylim=(0, 1))
    axis.set_axis_off()
    for x, y, word in words:
        box = {"boxstyle": "round,pad=0.5", "fc": "#EAF2F8", "ec": BLUE}
        axis.text(x, y, word, ha="center", va="center", bbox=box, fontsize=8.5)
    arrow = {"arrowstyle": "-|>", "color": GREY, "connectionstyle": "arc3,rad=-0.25", "lw": 1.5}
    ends = [
        ((0.7, 0.88), (0.84, 0.64)),
        ((0.84, 0.36), (0.7, 0.12)),
        ((0.3, 0.12), (0.16, 0.36)),
        ((0.16, 0.64), (0.3, 0.88)),
    ]
    for start, end in ends:
        axis.annotate("", xy=end, xytext=start, arrowprops=arrow)


def draw_self_refining(output: Path, nsteps: int = 400) -> None:
    """The circle, and a model's own bracket along dynamics with and without a trainer."""
    learned, ntrained = widths_along(learns=True, nsteps=nsteps)
    plain, _ = widths_along(learns=False, nsteps=nsteps)
    figure = new_figure(7.4, 3.1)
    left, right = figure.subplots(1, 2)
    draw_circle(left)
    right.semilogy(plain, color=GREY, lw=1, label="the guess, no training")
    right.semilogy(learned, color=BLUE, lw=1, label="self-refining")
    right.axhline(1e-3, color=GREEN, lw=0.8, ls=":", label="1 meV: nothing left to correct")
    right.set(xlabel="step of dynamics", ylabel="bracket of the model alone / eV")
    right.legend(frameon=False, fontsize=8, loc=(0.32, 0.6))
    save(figure, output / "self_refining.svg")
    early, late = np.median(learned[:20]), np.median(learned[-50:])
    print(
        f"median bracket {early:.4f} eV at first, {late:.6f} at the end; {ntrained} training steps"
    )
    print(f"guess alone {np.median(plain):.3f} eV")


DRAWN = {"bracket": draw_bracket, "state": draw_state, "self-refining": draw_self_refining}


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw them, or one."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("--only", choices=list(DRAWN))
    parser.add_argument("--output", type=Path, default=FIGURES, help="folder of the figures")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name, draw in DRAWN.items():
        if options.only in (None, name):
            draw(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
