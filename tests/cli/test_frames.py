"""What commands read as structures: files, SMILES, ASE's names."""

import warnings
from importlib.util import find_spec

import pytest

from ase_srdft.cli.common import command_parser
from ase_srdft.cli.frames import add_frames, chosen_frames, read_structures


def chosen(*arguments):
    parser = command_parser("frames", "", "")
    add_frames(parser)
    return chosen_frames(parser.parse_args(arguments))


def test_names_with_the_options_of_frames(capsys):
    found = chosen("g2:*:H,C,N,O", "--last", "10", "--stride", "4")
    assert len(found) == 3
    assert capsys.readouterr().err == (
        "g2:*:H,C,N,O: 20 of the 81 molecules of G2 asked for have open shells, which are not "
        "supported: they are left out\n"
    )


@pytest.mark.skipif(find_spec("rdkit") is None, reason="RDKit is an extra")
def test_smiles_and_files_of_them(tmp_path, capsys):
    (tmp_path / "a.smi").write_text("O\nC\n")
    assert [str(atoms.symbols) for atoms in chosen(str(tmp_path / "a.smi"))] == ["OH2", "CH4"]
    (atoms,) = chosen("smiles:F/C=C/F")
    assert str(atoms.symbols) == "FC2FH2"
    assert capsys.readouterr().err == ""


def test_other_warnings_go_on(monkeypatch):
    def read(source, limit, conformers):
        warnings.warn("something else", UserWarning, stacklevel=2)
        return []

    monkeypatch.setattr("ase_srdft.common.structures.read_frames", read)
    with pytest.warns(UserWarning, match="something else"):
        read_structures("a.xyz")
