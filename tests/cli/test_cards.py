"""ase-srdft-eval --list and --card: words without an SCF, and one line where options clash."""

import shutil

import pytest

from ase_srdft.cli.evaluate import main
from ase_srdft.models import shipped_models
from ase_srdft.models.model_file import save_model
from ase_srdft.models.shipped_models import list_models, model_path
from tests.calculator.test_model_card import LEVELS, RECORD
from tests.tools.small_models import potential_model
from tests.tools.small_training import plain_with


def test_the_list_has_a_line_for_each_model(capsys):
    assert main(["--list"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list_models()
    assert lines[1].split() == [
        *("ethanol-pbe-6-31g", "potential", "any", "C2H6O,", "one", "isomer", "500", "1.2", "2.2")
    ]
    assert printed.err == ""


def test_the_list_fits_100_columns_with_a_general_model(tmp_path, monkeypatch, capsys):
    elements = (1, 6, 7, 8, 9, 16, 17)
    config = plain_with({"levels": list(LEVELS), "sampling": {"temperature_K": 850.0}})
    record = RECORD | {"config": config, "structure": None}
    record["molecules"] = [f"M{n} {level}" for n in range(1593) for level in LEVELS]
    save_model(tmp_path / "organics.srdft", potential_model(elements), record)
    name = "malonaldehyde-pbe-6-31g"
    shutil.copy(model_path(name), tmp_path)
    monkeypatch.setattr(shipped_models, "shipped_folder", lambda: tmp_path)
    assert main(["--list"]) == 0
    header, first, second, _ = capsys.readouterr().out.splitlines()
    assert first.split()[:4] == [name, "potential", "any", "C3H4O2,"]
    assert second.split()[:4] == ["organics", "potential", "any", "1,593"]
    assert "850" in second
    assert 70 < max(map(len, (header, first, second))) <= 100


def test_the_card_of_a_name_and_of_a_path(capsys):
    name = "water-pbe-6-31g"
    assert main([name, "--card"]) == 0
    by_name = capsys.readouterr().out.splitlines()
    assert main([str(model_path(name)), "--card"]) == 0
    by_path = capsys.readouterr().out.splitlines()
    assert by_name[0] == name
    assert by_name[1:] == by_path[1:]
    assert any(line.startswith("temperature  500 K") for line in by_name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no MODEL"),
        (["water-pbe-6-31g"], "no FRAMES"),
        (["--card"], "no MODEL"),
        (["nobody", "--card"], "no model 'nobody'"),
        (["water-pbe-6-31g", "--list"], "without model"),
        (["water-pbe-6-31g", "frames.xyz", "--card"], "without frames"),
        (["water-pbe-6-31g", "--card", "--threads", "2", "--no-forces"], "no_forces, threads"),
        (["--list", "--card"], "without card"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ase-srdft-eval: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
