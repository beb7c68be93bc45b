"""ase-srdft-info: cards, a table, and pictures."""

import pytest

from ase_srdft import list_models, model_card
from ase_srdft.cli.info import main
from ase_srdft.models.shipped_models import model_path


def test_the_card_of_one(capsys):
    assert main(["water-pbe-6-31g"]) == 0
    assert capsys.readouterr().out == f"{model_card('water-pbe-6-31g')}\n"


def test_several_are_a_table(capsys):
    names = ["water-pbe-6-31g", str(model_path("ethanol-pbe-6-31g"))]
    assert main(names) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == names


def test_none_are_all_that_ship(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list_models()


@pytest.mark.parametrize("suffix", [".png", ".html"])
def test_a_picture(suffix, capsys, tmp_path):
    path = tmp_path / f"water{suffix}"
    assert main(["water-pbe-6-31g", "--picture", str(path)]) == 0
    assert path.stat().st_size > 5000
    printed = capsys.readouterr().out
    assert str(model_card("water-pbe-6-31g")) in printed
    assert printed.endswith(f"picture: {path}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nobody"], "no model 'nobody'"),
        (["water-pbe-6-31g", "nobody"], "no model 'nobody'"),
        (["--picture", "a.png"], "no MODELs"),
        (["water-pbe-6-31g", "ethanol-pbe-6-31g", "--picture", "a.png"], "2 MODELs"),
        (["water-pbe-6-31g", "--picture", "a.jpg"], "a.jpg"),
        (["water-pbe-6-31g", "--picture", "no/a.png"], "no directory"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ase-srdft-info: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("ase-srdft-info ")
