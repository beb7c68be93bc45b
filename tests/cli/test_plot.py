"""ase-srdft-plot: pictures of runs and of trajectories."""

import pytest
from ase.build import molecule
from ase.io import write

from ase_srdft.cli.plot import main
from tests.runs.report.run_log import put, realistic_run, settings
from tests.runs.report.test_dynamics_picture import frames


def test_a_run(tmp_path, capsys):
    run = put(tmp_path / "run", realistic_run(steps=300), settings())
    assert main([str(run)]) == 0
    assert (run / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"picture: {run / 'plot.png'}\n"


def test_a_trajectory(tmp_path):
    write(tmp_path / "md.traj", frames())
    assert main([str(tmp_path / "md.traj")]) == 0
    assert (tmp_path / "md-plot.png").read_bytes().startswith(b"\x89PNG")
    picture = tmp_path / "md.svg"
    assert main([str(tmp_path / "md.traj"), "-o", str(picture), "--interval", "2.5"]) == 0
    text = picture.read_text()
    for words in ("time in fs", "bracket width in meV", "corrected: 60 %", "organics v4"):
        assert words in text


def test_the_folder_of_a_run_of_dynamics(tmp_path):
    (tmp_path / "run").mkdir()
    write(tmp_path / "run" / "md.traj", frames())
    assert main([str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "md-plot.png").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.traj"], "no file none.traj"),
        (["empty"], "metrics.jsonl"),
        (["bare.xyz"], "no energies"),
        (["md.traj", "-o", "a.jpg"], "a.jpg"),
        (["md.traj", "-o", "no/a.png"], "no directory"),
        (["run", "--interval", "2"], "--interval"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("md.traj", frames(1))
    write("bare.xyz", molecule("H2O"))
    put(tmp_path / "run", realistic_run(steps=100), settings())
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("ase-srdft-plot: error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("interval", ["0", "-1", "soon", "nan", "inf"])
def test_an_interval_that_is_none_is_refused(interval, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["md.traj", "--interval", interval])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_tells_its_version(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("ase-srdft-plot ")
