"""The learning curve: which molecules, by which command, beside which stages."""

import argparse

import learning_curve
import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from train_organics import NCHNO, listed_molecules

SMILES = [line.split()[0] for line in listed_molecules()[:NCHNO]]


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        level="PBE/6-31g",
        minutes=1.0,
        seed=3,
        batch_size=16,
        ranks=1,
        structures=None,
        gradient_spike=None,
        error_exponent=0.0,
    )


@pytest.mark.parametrize("ranks", [1, 4])
def test_the_command(ranks, options, tmp_path):
    options.ranks = ranks
    words = learning_curve.train_command(tmp_path / "of-5", 5, options)
    assert ("torch.distributed.run" in words) == (ranks > 1)
    assert words[words.index("ase_srdft.cli.train") + 1] == str(tmp_path / "of-5.smi")
    listed = (tmp_path / "of-5.smi").read_text(encoding="utf-8").split("\n")[:-1]
    chosen = [line.split()[0] for line in listed]
    assert [chosen[0], chosen[-1]] == [SMILES[0], SMILES[-1]]
    assert len(chosen) == 5


def test_structures_in_the_place_of_smiles(options, tmp_path):
    every = [*SMILES, SMILES[0]]  # the first one has two conformers
    frames = [molecule("H2O") for _ in every]
    for frame, smiles in zip(frames, every, strict=True):
        frame.info["smiles"] = smiles
    options.structures = tmp_path / "all.xyz"
    write(options.structures, frames)
    backslashes = sum("\\" in smiles for smiles in SMILES)
    assert backslashes > 3  # the format loses them

    learning_curve.train_command(tmp_path / "some", len(SMILES), options)
    assert len(read(tmp_path / "some.xyz", index=":")) == len(every)

    write(options.structures, frames[1:-1])
    with pytest.raises(SystemExit, match=f"no structure of {SMILES[0]}"):
        learning_curve.train_command(tmp_path / "some", 5, options)


def test_stages_of_the_page():
    stages = learning_curve.stages()
    assert list(stages) == ["six kept out", "10 to 19 atoms", "20 to 33 atoms"]
    for curve in stages.values():
        assert (np.diff(curve[:, 0]) > 0).all()
        assert curve[-1, 1] < curve[0, 1]
