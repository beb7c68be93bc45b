"""Every command on a page of the documentation is one that the program takes."""

import shlex
from importlib import import_module

import pytest

from ase_srdft.cli.train_input import configuration
from tests.tools.markdown_blocks import PAGES, REPOSITORY, blocks

MODULES = {
    "ase-srdft-train": "ase_srdft.cli.train",
    "ase-srdft-eval": "ase_srdft.cli.evaluate",
    "ase-srdft-label": "ase_srdft.cli.label",
    "ase-srdft-md": "ase_srdft.cli.md",
    "ase-srdft-relax": "ase_srdft.cli.relax",
}
README = REPOSITORY / "README.md"


def commands():
    """Program, and its arguments, of every line of every block for a shell."""
    for page in (*PAGES, README):
        for block in blocks(page, "sh"):
            for line in block.code.replace(" && ", "\n").splitlines():
                words = shlex.split(line, comments=True)
                for place, word in enumerate(words):
                    if word in MODULES:
                        yield word, words[place + 1 :]


@pytest.mark.parametrize(
    ("program", "arguments"), [pytest.param(p, a, id=" ".join([p, *a])) for p, a in commands()]
)
def test_the_program_takes_it(program, arguments):
    # what a machine without a GPU has to say of "cuda" is no matter here
    arguments = ["cpu" if word.startswith("cuda") else word for word in arguments]
    options = import_module(MODULES[program])._parser().parse_args(arguments)
    if program == "ase-srdft-train" and options.config is None:
        options.labels = options.start_from = None  # files that are not here
        assert configuration(options).steps > 0


def test_there_are_commands():
    assert len(list(commands())) > 25


def test_a_wrong_flag_is_noticed(capsys):
    with pytest.raises(SystemExit) as end:
        test_the_program_takes_it("ase-srdft-train", ["water.xyz", "-o", "run", "--no-such-flag"])
    assert end.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err
