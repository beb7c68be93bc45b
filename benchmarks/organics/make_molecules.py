"""Make ``molecules.smi`` anew, the molecules that the general model is trained on.

The families in ``families.toml`` are combined: every template with everything that goes into its
places.  What is left out, and counted:

* what is there already, by RDKit's canonical SMILES;
* the molecules that the model is judged by, `KEPT_OUT` and those of ``unseen.smi``, and whatever is
  one of them with protons elsewhere: tautomers, conjugate acids and bases;
* what would not keep (`ODD`: enols, geminal diols, α-halogenated alcohols, ...), except in the
  families that are about it;
* more than 13 heavy atoms.

Every molecule has an even number of electrons, none of them unpaired, a charge of -1, 0 or 1, and a
structure by ``smiles:...`` whose bonds, by distance, are those of its SMILES.  Anything else is an
error here, as is a template that is no SMILES.  Needs the extra ``[smiles]``.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product
from pathlib import Path

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from ase_srdft.common.connectivity import bond_matrix
from ase_srdft.common.reading.smiles import atoms_of_smiles

__all__ = ["KEPT_OUT", "Family", "check", "composed", "families", "judged_by", "smiles_and_names"]

HERE = Path(__file__).resolve().parent
#: Methanol, acetaldehyde, acetamide, methylamine, dimethyl ether, glyoxal.
KEPT_OUT = ("CO", "CC=O", "CC(N)=O", "CN", "COC", "O=CC=O")
MOST_HEAVY_ATOMS = 13
FIRST_ELEMENTS = {"H", "C", "N", "O"}
#: What would lose water, hydrogen halides or protons, or is explosive, as SMARTS.
ODD = {
    "an enol": "[CX3]=[CX3][OX2H]",
    "a primary or secondary enamine": "[CX3;!$(C=O)]=[CX3][NX3;H1,H2;!$(NC=O)]",
    "an ynol or ynamine": "[CX2]#[CX2][OX2,NX3]",
    "a geminal alcohol or amine": "[CX4]([OX2,NX3;!$(NC=O)])[$([OX2H]),$([NX3;H1,H2;!$(NC=O)])]",
    "an alcohol or amine with a geminal halogen": "[CX4;!$(C(F)(F)F)]([F,Cl])[OX2H,NX3;H1,H2]",
    "a peroxide": "[OX2][OX2]",
    "a halogen on N or O": "[F,Cl][#7,#8]",
    "a chain of three N": "[NX3;!$(N=*)][NX3][NX3]",
    "carbamic or carbonic acid": "[NX3,OX2][CX3](=O)[OX2H]",
}
_FIRST_ATOM = re.compile(r"(\[[^]]*\]|Cl|[A-Za-z])(\d*)")


@dataclass(frozen=True)
class Family:
    """Molecules of one kind.

    Attributes:
        name: of the kind, in one word.
        templates: SMILES with places ``{}``, or without.
        places: the fragments that go into each place.
        odd: whether what is left out elsewhere is what this family is about.
    """

    name: str
    templates: Sequence[str]
    places: Sequence[Sequence[str]]
    odd: bool

    def molecules(self) -> Iterator[str]:
        """SMILES of every template with everything in its places."""
        for template in self.templates:
            for fragments in product(*self.places[: template.count("{}")]):
                text = template
                if text.startswith("{}"):  # a fragment begins with the atom that is bonded
                    text = _FIRST_ATOM.sub(r"\1\2({})", text[2:], count=1)
                yield text.format(*fragments)


def families() -> list[Family]:
    """All families of ``families.toml``, as they are there."""
    plain = tomllib.loads((HERE / "families.toml").read_text(encoding="utf-8"))
    fragments = plain["fragments"]
    turns = cycle(fragments["turns"].split())
    found = []
    for each in plain["families"]:
        templates, places = each["templates"].split(), each.get("places", [])
        # fragments that take turns are others for each template: a family for each
        groups = [[one] for one in templates] if "*" in "".join(places) else [templates]
        for group in groups:
            filled = [list(_fragments(place, fragments, turns)) for place in places]
            found.append(Family(each["name"], group, filled, each.get("odd", False)))
    return found


def _fragments(words: str, sets: Mapping[str, str], turns: Iterator[str]) -> Iterator[str]:
    """The fragments that words stand for: themselves, sets by name, and the next in turn."""
    for word in words.split():
        if word in sets:
            yield from _fragments(sets[word], sets, turns)
        else:
            yield next(turns) if word == "*" else word


def composed() -> tuple[dict[str, str], Counter[str]]:
    """The canonical SMILES of all molecules with their families, and why others are left out."""
    molecules: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for family in families():
        for text in family.molecules():
            molecule = Chem.MolFromSmiles(text)
            if molecule is None:
                raise ValueError(f"{family.name}: {text} is no SMILES; mend the template")
            smiles = Chem.MolToSmiles(molecule)
            reason = "there already" if smiles in molecules else _reason(molecule, family)
            if reason is None:
                molecules[smiles] = family.name
            else:
                left_out[reason] += 1
    return molecules, left_out


def _reason(molecule: Chem.Mol, family: Family) -> str | None:
    """Why a molecule is left out, if it is."""
    if molecule.GetNumHeavyAtoms() > MOST_HEAVY_ATOMS:
        return f"more than {MOST_HEAVY_ATOMS} heavy atoms"
    if not family.odd:
        for name, pattern in ODD.items():
            if molecule.HasSubstructMatch(Chem.MolFromSmarts(pattern)):
                return name
    return "kept out" if judged_by(molecule) else None


def judged_by(molecule: Chem.Mol) -> bool:
    """Whether the model is judged by this molecule, or by one that differs in its protons."""
    return (
        _heavy_atoms(molecule) in _HEAVY_ATOMS_OF_JUDGES
        and _without_protons(molecule) in _JUDGES_WITHOUT_PROTONS
    )


def _heavy_atoms(molecule: Chem.Mol) -> tuple[int, ...]:
    return tuple(sorted(atom.GetAtomicNum() for atom in molecule.GetAtoms()))


def _without_protons(molecule: Chem.Mol) -> str:
    """SMILES of the canonical tautomer of the neutral molecule, without its stereochemistry."""
    neutral = Chem.RWMol(molecule)
    for atom in neutral.GetAtoms():
        charge = atom.GetFormalCharge()
        balanced = any(other.GetFormalCharge() == -charge for other in atom.GetNeighbors())
        if charge and not balanced and atom.GetTotalNumHs() >= charge:
            atom.SetNumExplicitHs(max(0, atom.GetTotalNumHs() - charge))
            atom.SetFormalCharge(0)
            atom.SetNoImplicit(True)
    Chem.SanitizeMol(neutral)
    Chem.RemoveStereochemistry(neutral)
    with rdBase.BlockLogs():
        tautomer = rdMolStandardize.TautomerEnumerator().Canonicalize(neutral)
    return str(Chem.MolToSmiles(Chem.MolFromSmiles(Chem.MolToSmiles(tautomer))))


def smiles_and_names(path: Path) -> dict[str, str]:
    """What a ``.smi`` file says: names by SMILES."""
    lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line[0]: line[1] for line in lines if line and line[0] != "#"}


_JUDGES = [
    Chem.MolFromSmiles(smiles) for smiles in (*KEPT_OUT, *smiles_and_names(HERE / "unseen.smi"))
]
_HEAVY_ATOMS_OF_JUDGES = {_heavy_atoms(molecule) for molecule in _JUDGES}
_JUDGES_WITHOUT_PROTONS = {_without_protons(molecule) for molecule in _JUDGES}


def check(smiles: str) -> None:
    """Make sure that a molecule is a closed shell, and has a structure with its own bonds.

    Raises:
        ValueError: it is not, or has not.
    """
    atoms = atoms_of_smiles(smiles)
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    charge = atoms.info["charge"]
    if (atoms.numbers.sum() - charge) % 2 or abs(charge) > 1:
        raise ValueError(f"{smiles}: {atoms.numbers.sum() - charge} electrons, charge {charge}")
    expected = Chem.GetAdjacencyMatrix(molecule).astype(bool)
    wrong = np.argwhere(np.triu(bond_matrix(atoms.numbers, atoms.positions) != expected))
    if len(wrong):
        raise ValueError(f"{smiles}: bonds by distance and by SMILES differ at {wrong.tolist()}")


def _is_first(smiles: str) -> bool:
    molecule = Chem.MolFromSmiles(smiles)
    return {atom.GetSymbol() for atom in molecule.GetAtoms()} <= FIRST_ELEMENTS


def _written(molecules: dict[str, str]) -> str:
    """The file: those of H, C, N and O first, families in order, small molecules before large."""
    order = {name: rank for rank, name in enumerate(dict.fromkeys(molecules.values()))}
    lines = sorted(
        molecules.items(),
        key=lambda item: (
            not _is_first(item[0]),
            order[item[1]],
            Chem.MolFromSmiles(item[0]).GetNumHeavyAtoms(),
            item[0],
        ),
    )
    nfirst = sum(map(_is_first, molecules))
    head = (
        f"# {len(lines)} closed-shell molecules and ions, SMILES and family: {nfirst} of H, C, N, "
        "O, then those with F, S or Cl.\n# Made by make_molecules.py, which says how.\n"
    )
    return head + "".join(f"{smiles} {family}\n" for smiles, family in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compose, check, write, and say what there is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE / "molecules.smi")
    options = parser.parse_args(arguments)
    molecules, left_out = composed()
    for smiles in molecules:
        check(smiles)
    options.output.write_text(_written(molecules), encoding="utf-8")
    heavy = Counter(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() for smiles in molecules)
    ions = sum(Chem.GetFormalCharge(Chem.MolFromSmiles(smiles)) != 0 for smiles in molecules)
    print(
        f"{len(molecules)} molecules, {sum(map(_is_first, molecules))} of H, C, N, O; {ions} ions"
    )
    print("heavy atoms:", ", ".join(f"{n}: {count}" for n, count in sorted(heavy.items())))
    print("left out:", ", ".join(f"{name}: {count}" for name, count in left_out.most_common()))


if __name__ == "__main__":
    main()
