"""The list of molecules for the general model: what is in it, and what is not."""

from pathlib import Path

import pytest

Chem = pytest.importorskip("rdkit.Chem")
make_molecules = pytest.importorskip("make_molecules")

FOLDER = Path(make_molecules.__file__).parent
LISTED = make_molecules.smiles_and_names(FOLDER / "molecules.smi")
UNSEEN = make_molecules.smiles_and_names(FOLDER / "unseen.smi")
HEAVY = {smiles: Chem.MolFromSmiles(smiles).GetNumHeavyAtoms() for smiles in LISTED | UNSEEN}


def elements(smiles):
    return {atom.GetSymbol() for atom in Chem.AddHs(Chem.MolFromSmiles(smiles)).GetAtoms()}


def nelectrons(smiles):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    charge = Chem.GetFormalCharge(molecule)
    return sum(atom.GetAtomicNum() for atom in molecule.GetAtoms()) - charge


def test_how_many_of_which_elements():
    first = [smiles for smiles in LISTED if elements(smiles) <= set("HCNO")]
    assert len(LISTED) >= 1500
    assert len(first) >= 1100
    assert list(LISTED)[: len(first)] == first
    for element, least in (("F", 100), ("S", 150), ("Cl", 100)):
        assert sum(element in elements(smiles) for smiles in LISTED) >= least
    assert set().union(*map(elements, LISTED)) == set("HCNOFS") | {"Cl"}


def test_sizes():
    sizes = [HEAVY[smiles] for smiles in LISTED]
    assert max(sizes) == 13
    assert 10 < sum(size > 10 for size in sizes) < 0.05 * len(sizes)
    natoms = [Chem.AddHs(Chem.MolFromSmiles(smiles)).GetNumAtoms() for smiles in UNSEEN]
    assert len(UNSEEN) >= 14
    assert max(natoms) == 33


def test_closed_shells():
    for smiles in LISTED | UNSEEN:
        molecule = Chem.MolFromSmiles(smiles)
        assert nelectrons(smiles) % 2 == 0
        assert abs(Chem.GetFormalCharge(molecule)) <= 1
        assert not any(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())


def test_no_molecule_is_there_twice_or_judged_by():
    assert len({Chem.CanonSmiles(smiles) for smiles in LISTED}) == len(LISTED)
    assert not [s for s in LISTED if make_molecules.judged_by(Chem.MolFromSmiles(s))]


def test_the_list_is_what_the_script_makes():
    molecules, _ = make_molecules.composed()
    assert molecules == {Chem.CanonSmiles(s): family for s, family in LISTED.items()}


@pytest.mark.parametrize("smiles", [*make_molecules.KEPT_OUT, *UNSEEN])
def test_what_the_model_is_judged_by_is_recognised(smiles):
    assert make_molecules.judged_by(Chem.MolFromSmiles(smiles))


RELATED = """
C[O-] C[NH3+] C=CO [CH2-]C=O CC(=N)O C[OH+]C [NH3+]CC(=O)[O-] NCC(=O)[O-] Oc1ccnc(O)n1
Nc1ncnc2nc[nH]c12 NCCc1c[nH]cn1 Cc1ccc([NH3+])cc1 [O-]C(=O)c1ccccc1O
"""


@pytest.mark.parametrize("smiles", RELATED.split())
def test_tautomers_and_ions_are_recognised(smiles):
    assert make_molecules.judged_by(Chem.MolFromSmiles(smiles))


@pytest.mark.parametrize("smiles", ["C=O", "CCO", "CC(C)=O", "NC=O", "COC(=O)CN", "Cc1cccc(N)c1"])
def test_other_molecules_are_not(smiles):
    assert not make_molecules.judged_by(Chem.MolFromSmiles(smiles))


def family(templates, *places, odd=False):
    return make_molecules.Family("some", templates.split(), [p.split() for p in places], odd)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (family("{}O", "CC C=C"), {"CCO", "C=CO"}),
        (family("{}C(=O)N CN", "C [H]"), {"CC(N)=O", "NC=O", "CN"}),
        (family("{}c1ccc(cc1){}", "C(C)=O", "F Cl"), {"CC(=O)c1ccc(F)cc1", "CC(=O)c1ccc(Cl)cc1"}),
        (family("{}[NH3+]", "C8CC8"), {"[NH3+]C1CC1"}),
    ],
)
def test_templates_are_filled(made, expected):
    assert {Chem.CanonSmiles(smiles) for smiles in made.molecules()} == expected


@pytest.mark.parametrize(
    ("smiles", "words"),
    [
        ("[O]O", "unpaired electron"),
        ("[O-]CC[O-]", "charge -2"),
        ("C1C2CC1C2", "bonds by distance and by SMILES differ"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(smiles, words):
    with pytest.raises(ValueError, match=words):
        make_molecules.check(smiles)


@pytest.mark.slow
def test_every_molecule_has_a_structure():
    for smiles in LISTED | UNSEEN:
        make_molecules.check(smiles)
