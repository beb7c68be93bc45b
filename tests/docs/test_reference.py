"""The pages of the reference have every name, setting and key that there is."""

import re

import pytest

import ase_srdft
from ase_srdft.calculator.certificate import Certificate
from ase_srdft.common.settings import settings_of
from ase_srdft.training.config import TrainingConfig
from tests.tools.markdown_blocks import REPOSITORY

REFERENCE = REPOSITORY / "docs" / "reference"
FILES = (REFERENCE / "files.md").read_text(encoding="utf-8")


@pytest.fixture
def generated_reference(docs_extension):
    return docs_extension("generated_reference")


def test_every_public_name_has_a_place():
    text = "".join(page.read_text(encoding="utf-8") for page in REFERENCE.glob("*.md"))
    named = set(re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text, flags=re.MULTILINE))
    assert set(ase_srdft.__all__) - {"__version__"} - named == set()


def test_every_section_of_the_settings_is_shown():
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"^:section: ([\w.]+)$", text, flags=re.MULTILINE))
    sections = {each.path.rpartition(".")[0] or "." for each in settings_of(TrainingConfig())}
    assert shown == sections


def test_every_command_is_shown():
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    programs = re.findall(
        r"^(ase-srdft-[\w-]+) = ", (REPOSITORY / "pyproject.toml").read_text(), re.M
    )
    assert len(programs) >= 3
    assert [name for name in programs if f"## {name}\n" not in text] == []


def test_every_key_of_the_metrics_is_explained():
    source = "".join(
        (REPOSITORY / "ase_srdft" / "runs" / name).read_text(encoding="utf-8")
        for name in ("metrics_records.py", "run_directory.py")
    )
    keys = set(re.findall(r'^ +"(\w+)": ', source, flags=re.MULTILINE))
    kinds = set(re.findall(r'event_record\("(\w+)"', source)) | {"start", "end"}
    assert len(keys) > 30
    assert len(kinds) == 7
    assert [key for key in sorted(keys | kinds) if f"`{key}`" not in FILES] == []


def test_every_key_of_a_certificate_is_explained():
    certificate = Certificate(
        error=0.0,
        force_error=0.0,
        path="corrected",
        start="model",
        start_error=0.0,
        builds=1,
        coarse_builds=0,
        model="m",
        model_version=0,
        level="l",
    )
    keys = certificate.key_values()
    assert len(keys) == 8
    assert [key for key in keys if f"| `{key}` |" not in FILES] == []


def test_help_is_what_the_command_prints(generated_reference):
    text = generated_reference.help_of("ase_srdft.cli.label", "--help")
    assert text.startswith("usage: ase-srdft-label")
    with pytest.raises(RuntimeError, match="ended with 2"):
        generated_reference.help_of("ase_srdft.cli.label", "--no-such-flag")


def test_rows_have_flags_and_defaults(generated_reference):
    settings = [each for each in settings_of(TrainingConfig()) if each.path == "self_refine"]
    flags = {"self_refine": ["--self-refine"]}
    *_, row = generated_reference.rows_of(settings, "", flags)
    assert row.startswith("| `self_refine`<br>`--self-refine` | on | sample with the model")
    *_, row = generated_reference.rows_of(settings, "below.", {})
    assert row.startswith("| `below.self_refine` | on |")
