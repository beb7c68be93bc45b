"""Words that cannot be said: they cost no result, and they are missed."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ase_srdft.cli.common import Parser, run_command, speaking
from ase_srdft.cli.words import Words, words_apart_from
from ase_srdft.common.atomic_files import replace_atomically

ROOT = str(Path(__file__).parents[2])


def speak(result):
    """A command that says something, works, and says what came of it."""

    def act():
        print("begun", flush=True)
        result.append(42)
        print("µ" * 10_000)
        return 0

    return act


@pytest.fixture
def full():
    with open("/dev/full", "w", encoding="utf-8") as stream:
        yield stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # else closing it fails


def test_a_full_disk_is_told_after_the_work(full, monkeypatch, capsys):
    result = []
    monkeypatch.setattr(sys, "stdout", full)
    assert speaking("program", speak(result)) == 1
    assert result == [42]
    assert sys.stdout is full
    assert capsys.readouterr().err == (
        "program: error: cannot write to standard output (No space left on device): words are "
        "lost, but files are as they should be\n"
    )


def test_a_failure_keeps_its_exit_code_and_its_line(full, monkeypatch, capsys):
    def act():
        print("words", flush=True)
        print("what went wrong", file=sys.stderr)
        return 75

    monkeypatch.setattr(sys, "stdout", full)
    assert speaking("program", act) == 75
    assert capsys.readouterr().err == "what went wrong\n"


def test_a_reader_that_has_left_is_told_nothing(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    result = []
    with open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert speaking("program", speak(result)) == 1
        monkeypatch.undo()
    assert result == [42]
    assert capsys.readouterr().err == ""


def test_nobody_hears_of_errors_either(full, monkeypatch):
    result = []
    monkeypatch.setattr(sys, "stderr", full)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert speaking("program", lambda: print("oh", file=sys.stderr) or 2) == 2
    assert speaking("program", speak(result)) == 0  # which lacks nothing
    assert result == [42]


def test_help_that_cannot_be_written(full, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", full)
    assert run_command(Parser(prog="program"), lambda _: 0, ["--help"]) == 1
    assert capsys.readouterr().err.startswith("program: error: cannot write to standard output")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "1 uEh at 2 A, cafe ?-"),
        ("latin-1", "1 µEh at 2 Å, café ?-"),
        ("utf-8", "1 µEh at 2 Å, café ┃–"),
        ("cp437", "1 µEh at 2 Å, café ?-"),
    ],
)
def test_characters_that_the_encoding_lacks(encoding, shown):
    content = io.BytesIO()
    words = Words(io.TextIOWrapper(content, encoding=encoding))
    print("1 µEh at 2 Å, café ┃–", file=words, flush=True)
    assert words.lost is None
    assert content.getvalue().decode(encoding) == shown + "\n"


def test_names_that_are_no_text():
    content = io.BytesIO()
    words = Words(io.TextIOWrapper(content, encoding="utf-8"))
    print(os.fsdecode(b"a\xffb"), file=words, flush=True)
    assert content.getvalue() == b"a?b\n"


CLOSED = """
import os, sys
from pathlib import Path
from ase_srdft.cli.common import speaking

def act():
    print("words")
    with open("result", "w") as file:
        print("fd", file.fileno(), file=file)
    return 0

sys.exit(speaking("program", act))
"""


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [("<&-", 0, ""), (">&-", 1, "Bad file descriptor"), ("2>&-", 0, ""), ("<&- >&- 2>&-", 1, "")],
)
def test_descriptors_that_are_closed(closed, code, said, tmp_path):
    """Nor are files given their numbers, where other words would land in them."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, CLOSED],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == bool(said)
    assert int((tmp_path / "result").read_text().split()[1]) > 2


def test_a_result_on_standard_output_is_alone_there(capfd, tmp_path):
    stdout = Path("/dev/stdout")
    for path in (stdout, tmp_path / "file"):
        with words_apart_from(path):
            print("words")
            replace_atomically(path, lambda beside: beside.write_text("result\n"))
        printed = capfd.readouterr()
        assert (printed.out, printed.err) in (("result\n", "words\n"), ("words\n", ""))
        assert (path == stdout) == (printed.out == "result\n")


def test_a_folder_that_is_gone_is_bad_input(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert run_command(Parser(prog="program"), lambda _: 0, []) == 2
    assert capsys.readouterr().err.startswith("program: error: the current folder cannot be used")


def test_errors_of_reading_and_writing_are_one_line(capsys):
    def command(_):
        raise OSError(28, "No space\nleft", "numbers.json")

    assert run_command(Parser(prog="program"), command, []) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("program: error: cannot read or write numbers.json (No space left)")
