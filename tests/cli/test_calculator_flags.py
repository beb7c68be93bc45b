"""Options of a calculator: the same defaults as from Python, and words for what is no number."""

import pytest
from ase import Atoms
from ase.io import write

from ase_srdft.calculator.srdft_calculator import SRDFTCalculator
from ase_srdft.cli.calculator_flags import (
    add_calculator,
    calculator_parameters,
    chosen_structure,
)
from ase_srdft.cli.common import command_parser
from ase_srdft.common.errors import BadInput


def parameters(*words):
    parser = command_parser("test", "", "")
    add_calculator(parser)
    return calculator_parameters(parser.parse_args(list(words)))


def test_without_options_it_is_the_calculator_of_python():
    found, expected = parameters("--threads", "1"), SRDFTCalculator.default_parameters
    assert found == {name: expected[name] for name in found}
    assert SRDFTCalculator(**found).parameters == SRDFTCalculator().parameters


def test_what_options_say(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    found = parameters("--max-error", "none", "--learn", "beside", "--density-fitting", "off")
    assert found["max_error"] is None
    assert (found["learn"], found["density_fitting"]) == ("beside", False)
    assert found["threads"] == 2
    assert parameters("--learn", "off")["learn"] is False
    assert parameters()["threads"] == 3
    assert parameters("--grid-level", "3", "--charge", "-1")["grid_level"] == 3
    with pytest.raises(SystemExit):
        parameters("--threads", "many")


def test_of_several_structures_the_last_one(tmp_path):
    path = str(tmp_path / "two.xyz")
    write(path, [Atoms("H2", [[0, 0, 0], [0, 0, d]]) for d in (0.7, 0.8)])
    atoms = chosen_structure(path, None)
    assert atoms.get_distance(0, 1) == pytest.approx(0.8)
    assert "charge" not in atoms.info
    assert chosen_structure(path, 2).info["charge"] == 2
    write(path, Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], info={"charge": -2}))
    assert chosen_structure(path, None).info["charge"] == -2
    with pytest.raises(BadInput):
        chosen_structure(path, 2)
