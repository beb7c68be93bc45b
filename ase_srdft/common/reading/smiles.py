"""Molecules that are written as SMILES: a string, or a file of them, into structures.

RDKit reads them, embeds them with ETKDGv3 (Wang, Witek, Landrum and Riniker, J. Chem. Inf. Model.
60, 2044 (2020)) and relaxes them in MMFF94, or in UFF where MMFF94 has no parameters.  RDKit is an
extra of the package (``[smiles]``), imported where it is used.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms

from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.common.errors import BadInput

if TYPE_CHECKING:
    from rdkit.Chem import Bond, Mol

__all__ = ["atoms_of_smiles", "conformers_of_smiles", "read_smiles_file"]

#: Of the first embedding, others count on from it: the same SMILES is the same structures.
_SEED = 1
#: Embeddings in a row that gave no new conformer after which there is none to be expected.
_MOST_MISSES = 12
#: Conformers whose distances between like pairs of atoms differ by less are one, or mirror images.
_ALIKE_ANGSTROM = 0.1
#: Steps of a relaxation, at most; the largest molecules that are of use here take some hundred.
_RELAXATION_STEPS = 2000
#: Where MMFF94 lacks a bond it makes one up, such as 1.40 Angstrom in CO2, and reports nothing.
#: A length is believed so far from that in UFF, or so far from the usual one; those it means are.
_NEAR_UFF_ANGSTROM, _NEAR_USUAL_ANGSTROM = 0.15, 0.08
#: Half of a single, a double and a triple bond, in pm: Pyykkö and Atsumi, Chem. Eur. J. 15, 186 and
#: 12770 (2009); Pyykkö, Riedel and Patzschke, Chem. Eur. J. 11, 3511 (2005).
_BOND_RADII_PM = {
    "H": (32, 32, 32),
    "B": (85, 78, 73),
    "C": (75, 67, 60),
    "N": (71, 60, 54),
    "O": (63, 57, 53),
    "F": (64, 59, 53),
    "Si": (116, 107, 102),
    "P": (111, 102, 94),
    "S": (103, 94, 95),
    "Cl": (99, 95, 93),
    "Br": (114, 109, 110),
    "I": (133, 129, 125),
}


def atoms_of_smiles(smiles: str, what: str | None = None) -> Atoms:
    """The structure of one molecule or ion, in Angstrom, the same each time.

    ``info`` holds the SMILES as ``smiles`` and the sum of the formal charges as ``charge`` (e),
    where `ase_srdft.common.charges` finds it.  Atoms are in the order of the SMILES, the hydrogens
    that it leaves out behind them.  Of stereocentres that it leaves open one form is taken.

    Args:
        smiles: what RDKit understands.
        what: how messages call the molecule.

    Raises:
        BadInput: no SMILES, not one molecule, a radical, a molecule that cannot be embedded, or
            RDKit is not installed.
    """
    return conformers_of_smiles(smiles, 1, what)[0]


def conformers_of_smiles(smiles: str, count: int, what: str | None = None) -> list[Atoms]:
    """Structures of one molecule or ion, as `atoms_of_smiles` gives them, which is the first one.

    The others are further minima of the force field, with the same bonds and the same form of
    every stereocentre; mirror images are left out.

    Args:
        smiles: what RDKit understands.
        count: of them, at most.
        what: how messages call the molecule.

    Raises:
        BadInput: see `atoms_of_smiles`.
    """
    what = what or f"smiles:{smiles}"
    try:
        from rdkit import rdBase
    except ImportError as err:
        raise BadInput(
            f"{what}: SMILES are read by RDKit, which is not installed; "
            "pip install 'ase_srdft[smiles]'"
        ) from err
    with rdBase.BlockLogs():  # what RDKit says on stderr is in the errors below
        molecule = _parsed(smiles, what)
        first = _relaxed(_embedded(molecule, what), what)
        conformers = [first, *_further(molecule, first, count - 1, what)]
    return [
        Atoms(
            numbers=[atom.GetAtomicNum() for atom in molecule.GetAtoms()],
            positions=positions,
            info={
                "smiles": smiles,
                "charge": sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()),
            },
        )
        for positions in conformers
    ]


def read_smiles_file(path: Path, limit: int | None, conformers: int = 1) -> list[Atoms]:
    """The molecules of a ``.smi`` file: on each line a SMILES and, if there is one, a name.

    The name goes to ``info``.  A line that begins with ``#`` is a comment, and so is what follows
    a ``#`` after a space.

    Args:
        path: the file.
        limit: take the first so many; the others are not looked at.
        conformers: of each, at most, one after the other.

    Raises:
        BadInput: see `atoms_of_smiles`; it names the line.  Or the file is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as err:
        raise BadInput(f"{path} is no text ({err}); write SMILES, one on each line") from None
    words = [line.split("#" if line.startswith("#") else " #")[0].split() for line in lines]
    molecules = [(number, each) for number, each in enumerate(words, start=1) if each]
    frames = []
    for number, (smiles, *name) in islice(molecules, limit):
        for atoms in conformers_of_smiles(
            smiles, conformers, f"line {number} of {path} ({smiles})"
        ):
            if name:
                atoms.info["name"] = " ".join(name)
            frames.append(atoms)
    return frames


def _parsed(smiles: str, what: str) -> Mol:
    """One closed-shell molecule with all of its hydrogens."""
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:
        raise BadInput(f"{what} is no SMILES that RDKit understands ({_problem(smiles)})")
    if molecule.GetNumAtoms() == 0:
        raise BadInput(f"{what} has no atoms; write a SMILES, such as smiles:CCO")
    if len(Chem.GetMolFrags(molecule)) > 1:
        raise BadInput(
            f"{what} is of several molecules, and where they are to each other it does not say; "
            "give them one by one, or a structure file"
        )
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        raise BadInput(f"{what} has an atom that is no element; write every element")
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    if unpaired:
        raise BadInput(
            f"{what} has {unpaired} unpaired electron{'s' if unpaired > 1 else ''}, and open "
            "shells are not supported; write its hydrogens or its charge, or leave it out"
        )
    return Chem.AddHs(molecule)


def _problem(smiles: str) -> str:
    """What RDKit says is wrong, in words."""
    from rdkit import Chem

    raw = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = [] if raw is None else Chem.DetectChemistryProblems(raw)
    return "; ".join(problem.Message() for problem in problems) or "its syntax is wrong"


def _embedded(molecule: Mol, what: str) -> Mol:
    """The molecule with a conformer, by ETKDGv3."""
    from rdkit.Chem import rdDistGeom

    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = _SEED
    for from_random in (False, True):  # the second is slower, and finds more
        parameters.useRandomCoords = from_random
        if rdDistGeom.EmbedMolecule(molecule, parameters) >= 0:
            return molecule
    raise BadInput(
        f"RDKit finds no structure for {what}: is it too strained, or a stereocentre wrong? "
        "Give a structure file"
    )


def _further(molecule: Mol, first: np.ndarray, count: int, what: str) -> list[np.ndarray]:
    """More conformers (natoms, 3) in Angstrom of a molecule that has one, so many at most."""
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    if count < 1 or molecule.GetNumAtoms() < 4:  # three atoms have no torsion
        return []
    Chem.AssignStereochemistryFrom3D(molecule)  # the forms that the first one has
    numbers = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    bonds = bond_matrix(numbers, first)
    found: list[np.ndarray] = []
    known = [_shape(numbers, first)]
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = _SEED
    misses = 0
    while len(found) < count and misses < _MOST_MISSES:
        parameters.randomSeed += 1
        misses += 1
        if rdDistGeom.EmbedMolecule(molecule, parameters) < 0:
            continue
        positions = _relaxed(molecule, what)
        shape = _shape(numbers, positions)
        is_new = min(np.abs(shape - other).max() for other in known) > _ALIKE_ANGSTROM
        if is_new and (bond_matrix(numbers, positions) == bonds).all():
            found.append(positions)
            known.append(shape)
            misses = 0
    return found


def _shape(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Distances between atoms (Angstrom), sorted among pairs of the same two elements.

    The same for conformers that differ by a turned or reflected molecule, or by like atoms that
    have changed places, such as those of a methyl group.
    """
    rows, columns = np.triu_indices(len(numbers), 1)
    lengths = np.linalg.norm(positions[rows] - positions[columns], axis=1)
    pairs = np.sort(np.stack([numbers[rows], numbers[columns]]), axis=0)
    shape: np.ndarray = lengths[np.lexsort((lengths, pairs[1], pairs[0]))]
    return shape


def _relaxed(molecule: Mol, what: str) -> np.ndarray:
    """Positions (natoms, 3) in Angstrom at a minimum of a force field; of one atom as they are.

    The force field is MMFF94; it is UFF where MMFF94 does not know an atom or makes up a bond.
    """
    from rdkit.Chem import rdForceFieldHelpers as force_fields

    start = _positions(molecule)
    if molecule.GetNumAtoms() == 1:
        return start
    if force_fields.MMFFHasAllMoleculeParams(molecule):
        force_fields.MMFFOptimizeMolecule(molecule, maxIters=_RELAXATION_STEPS)
        if all(_is_credible(molecule, bond) for bond in molecule.GetBonds()):
            return _positions(molecule)
    if not force_fields.UFFHasAllMoleculeParams(molecule):
        raise BadInput(f"{what} has atoms that neither MMFF94 nor UFF knows; give a structure file")
    for index, position in enumerate(start):
        molecule.GetConformer().SetAtomPosition(index, position)
    force_fields.UFFOptimizeMolecule(molecule, maxIters=_RELAXATION_STEPS)
    return _positions(molecule)


def _positions(molecule: Mol) -> np.ndarray:
    """Of its conformer (natoms, 3), in Angstrom."""
    positions: np.ndarray = molecule.GetConformer().GetPositions()
    return positions


def _is_credible(molecule: Mol, bond: Bond) -> bool:
    """Whether a bond is about as long as such bonds are, by its radii or in UFF.

    At charges and in aromatic rings, where electrons are shared with other bonds, it may be all
    down to a bond of one order more.
    """
    from rdkit.Chem import rdForceFieldHelpers as force_fields

    ends = bond.GetBeginAtom(), bond.GetEndAtom()
    first, second = (atom.GetIdx() for atom in ends)
    positions = _positions(molecule)
    length = np.linalg.norm(positions[first] - positions[second])
    ranges = []
    in_uff = force_fields.GetUFFBondStretchParams(molecule, first, second)
    if in_uff is not None:
        ranges.append((in_uff[1] - _NEAR_UFF_ANGSTROM, in_uff[1] + _NEAR_UFF_ANGSTROM))
    if all(atom.GetSymbol() in _BOND_RADII_PM for atom in ends):
        order = min(int(bond.GetBondTypeAsDouble()), 3)
        is_shared = bond.GetIsAromatic() or any(atom.GetFormalCharge() for atom in ends)
        sums = np.sum([_BOND_RADII_PM[atom.GetSymbol()] for atom in ends], axis=0) / 100.0
        shortest = sums[min(order, 2)] if is_shared else sums[order - 1]
        ranges.append((shortest - _NEAR_USUAL_ANGSTROM, sums[order - 1] + _NEAR_USUAL_ANGSTROM))
    return not ranges or any(shortest < length < longest for shortest, longest in ranges)
