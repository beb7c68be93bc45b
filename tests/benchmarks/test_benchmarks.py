"""Every program in ``benchmarks/`` can be imported and says how it is called."""

import sys

import pytest

from tests.tools.campaigns import BENCHMARKS, benchmark

PROGRAMS = sorted(
    path.stem
    for path in BENCHMARKS.glob("*.py")
    if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
)


def test_there_are_programs():
    assert len(PROGRAMS) > 20


@pytest.mark.parametrize("name", PROGRAMS)
def test_help(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as end:
        benchmark(name).main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: {name}.py ")
