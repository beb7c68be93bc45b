"""Every name and file in the theory-to-code page and the architecture page exists."""

import dataclasses
import importlib
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "explanation" / "theory.md"
ARCHITECTURE = REPOSITORY / "docs" / "explanation" / "architecture.md"
CODE_SPAN = re.compile(r"`([^`\n]+)`")
NAME = re.compile(r"[a-z_]\w*(\.\w+)*")
FILE = re.compile(r"[\w./-]+\.(py|md|cfg|srdft)")


def code_spans(text):
    """What stands between backticks outside of code blocks."""
    return CODE_SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def modules():
    """Names of the package's top-level modules and packages."""
    package = REPOSITORY / "ase_srdft"
    names = {path.stem for path in package.glob("*.py")}
    return names | {path.parent.name for path in package.glob("*/__init__.py")}


def references(text):
    """Dotted names below ``ase_srdft``; plain words and equations are none."""
    names = [span for span in code_spans(text) if NAME.fullmatch(span) and not FILE.fullmatch(span)]
    return [name for name in names if "." in name or name in modules()]


def files(text):
    """Paths of files in the repository."""
    return [span for span in code_spans(text) if FILE.fullmatch(span)]


def resolve(name):
    """The object of a dotted name below ``ase_srdft``; fields of dataclasses count.

    Raises:
        AttributeError: there is none.
    """
    parts = name.split(".")
    for nmodule in range(len(parts), 0, -1):
        path = ".".join(["ase_srdft", *parts[:nmodule]])
        try:
            found = importlib.import_module(path)
        except ModuleNotFoundError as err:
            if not f"{path}.".startswith(f"{err.name}."):
                raise
            continue
        for part in parts[nmodule:]:
            fields = dataclasses.fields(found) if dataclasses.is_dataclass(found) else ()
            if part in [field.name for field in fields]:
                return part
            found = getattr(found, part)
        return found
    raise AttributeError(f"no module ase_srdft.{parts[0]}")


NAMES = {
    name for page in (PAGE, ARCHITECTURE) for name in references(page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_name_exists(name):
    assert resolve(name) is not None


def test_the_files_exist():
    named = files(PAGE.read_text(encoding="utf-8"))
    assert "tests/dft/test_energy_bracket.py" in named
    assert [name for name in named if not (REPOSITORY / name).is_file()] == []


def test_the_files_of_the_architecture_page_exist():
    named = [name for name in files(ARCHITECTURE.read_text(encoding="utf-8")) if "/" in name]
    assert "dft/xc/functionals.py" in named
    assert [name for name in named if not (REPOSITORY / "ase_srdft" / name).is_file()] == []


def test_the_glossary_is_in_order():
    text = ARCHITECTURE.read_text(encoding="utf-8").partition("## Glossary")[2]
    words = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)
    assert words[0] == "word"
    assert len(words) > 20
    assert words[2:] == sorted(words[2:])


def test_there_are_enough_names():
    assert len(set(references(PAGE.read_text(encoding="utf-8")))) > 60


@pytest.mark.parametrize(
    "name",
    [
        "dft.energy.no_such_function",
        "dft.no_such_module.kohn_sham",
        "no_such_package.energy",
        "dft.energy.Energies.no_such_field",
    ],
)
def test_a_wrong_name_is_noticed(name):
    assert references(f"see `{name}` for it") == [name]
    with pytest.raises(AttributeError):
        resolve(name)


def test_equations_and_words_are_no_names():
    assert references("`E = Tr P h`, `a`, `total`, `tests/docs/test_names.py`, `common`") == [
        "common"
    ]
    assert files("`E = Tr P h`, `tests/docs/test_names.py`") == ["tests/docs/test_names.py"]


def test_every_row_of_a_table_has_the_columns_of_its_head():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    assert len(rows) > 60
    columns = None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        found = len(re.findall(r"(?<!\\)\|", line))
        columns = columns or found
        assert found == columns, line
