"""Every link from a file of the repository to another leads to one.  Sphinx sees to the site's."""

import re

import pytest

from tests.tools.markdown_blocks import PAGES, REPOSITORY

FILES = [
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((REPOSITORY / "benchmarks").rglob("*.md")),
    *PAGES,
]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)(?:#[^)]*)?\)")


def targets(text):
    """Files that a text links to, without what stands in blocks of code."""
    return LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_links_lead_to_files(path):
    found = targets(path.read_text(encoding="utf-8"))
    assert [name for name in found if not (path.parent / name).is_file()] == []


def test_links_are_seen():
    text = "[a](b.md#c), [d](https://e.org), ![f](g/h.svg)\n```\n[i](j)\n```\n[k](#l)"
    assert targets(text) == ["b.md", "g/h.svg"]
    readme = targets((REPOSITORY / "README.md").read_text(encoding="utf-8"))
    assert "docs/start.md" in readme
