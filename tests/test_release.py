"""What a release says of itself agrees everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

import ase_srdft

REPOSITORY = Path(__file__).resolve().parents[1]


def text_of(name):
    return (REPOSITORY / name).read_text(encoding="utf-8")


def changelog_versions(text):
    """The versions that have a section, the newest first."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", text, flags=re.MULTILINE)


def test_versions_agree():
    assert re.fullmatch(r"\d+\.\d+\.\d+", ase_srdft.__version__)
    project = tomllib.loads(text_of("pyproject.toml"))
    assert project["project"]["dynamic"] == ["version"]
    source = project["tool"]["setuptools"]["dynamic"]["version"]
    assert source == {"attr": "ase_srdft.version.__version__"}
    (cited,) = re.findall(r"^version: (.+)$", text_of("CITATION.cff"), flags=re.MULTILINE)
    assert [cited, changelog_versions(text_of("CHANGELOG.md"))[0]] == [ase_srdft.__version__] * 2


def test_sections_of_the_changelog_are_seen():
    text = "## [Unreleased]\n\n## [1.3.0] - 2026-01-02\n- [1.2.9]\n## [1.2.0] - 2025-01-02\n"
    assert changelog_versions(text) == ["1.3.0", "1.2.0"]


def test_the_page_of_promises_names_what_is_public():
    text = text_of("docs/reference/stability.md")
    (line,) = re.findall(r"^- The names of `ase_srdft`: (.+), with the", text, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", line) == ase_srdft.__all__


@pytest.mark.parametrize("name", ["bug", "question"])
def test_whoever_reports_is_asked_what_computed(name):
    template = text_of(f".github/ISSUE_TEMPLATE/{name}.md")
    assert template.startswith("---\nname: ")
    assert "ase_srdft.about()" in template
