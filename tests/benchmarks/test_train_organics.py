"""The command of a stage of the general model: one that users have, and parses."""

import pytest
import train_organics

from ase_srdft.cli import train
from ase_srdft.cli.train_input import configuration
from ase_srdft.common.structures import read_frames


@pytest.mark.parametrize(("more", "nmolecules"), [([], 1206), (["--all-elements"], 1593)])
def test_a_stage_is_a_run_of_the_command(more, nmolecules, tmp_path, monkeypatch):
    monkeypatch.setattr(train_organics, "train", train._parser().parse_args)
    words = ["-o", str(tmp_path / "stage"), "--minutes", "5", "--seed", "2", *more]
    options = train_organics.main(words)
    config = configuration(options)
    assert (config.model, config.seed, len(config.levels)) == ("potential", 2, 3)
    assert ("Cl" in config.scope) == bool(more)
    (structures,) = options.structures
    with open(structures, encoding="utf-8") as file:
        assert len(file.readlines()) == nmolecules


def test_structures_for_where_there_is_no_rdkit(tmp_path, monkeypatch):
    pytest.importorskip("rdkit")
    listed, structures = tmp_path / "two.smi", tmp_path / "two.xyz"
    listed.write_text("CCO ethanol\nCC(=O)[O-] acetate\n", encoding="utf-8")
    words = ["--structures", str(listed), "--write-structures", str(structures)]
    monkeypatch.chdir(tmp_path)
    assert train_organics.main(words) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"two.smi", "two.xyz"}
    frames = read_frames(structures)
    assert [len(frame) for frame in frames[-2:]] == [9, 7]
    assert len(frames) == 3  # ethanol has two conformers
    assert [frame.info["charge"] for frame in frames] == [0, 0, -1]

    monkeypatch.setattr(train_organics, "train", train._parser().parse_args)
    words = ["--structures", str(structures), "-o", str(tmp_path / "stage"), "--batch-size", "64"]
    options = train_organics.main(words)
    assert options.structures == [str(structures)]
    assert configuration(options).optimiser.batch_size == 64
    assert not (tmp_path / "stage.smi").exists()
