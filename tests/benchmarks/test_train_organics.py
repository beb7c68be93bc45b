"""The command of a stage of the general model: one that users have, and parses."""

import pytest
import train_organics

from ase_srdft.cli import train
from ase_srdft.cli.train_input import configuration


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
