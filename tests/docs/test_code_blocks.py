"""Every block of Python on a page of the documentation runs, as a reader would run it."""

import pytest

from tests.tools.markdown_blocks import PAGES, REPOSITORY, blocks

WITH_CODE = [page for page in PAGES if blocks(page, "python")]
SLOW = [page for page in WITH_CODE if any(block.is_slow for block in blocks(page, "python"))]
QUICK = [page for page in WITH_CODE if not all(block.is_slow for block in blocks(page, "python"))]


def name(page):
    return str(page.relative_to(REPOSITORY / "docs"))


def run(page, slow):
    """Run its blocks one after the other, as one program."""
    names = {"__name__": "__main__"}
    ran = 0
    for block in blocks(page, "python"):
        if block.missing or (block.is_slow and not slow):
            continue
        block.run(names)
        ran += 1
    return ran


@pytest.mark.parametrize("page", QUICK, ids=name)
def test_quick_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(page, slow=False) > 0 or any(block.missing for block in blocks(page, "python"))


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=name)
def test_all_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(page, slow=True) > 0


@pytest.mark.parametrize("page", WITH_CODE, ids=name)
def test_blocks_are_python_and_said_to_be_tested(page):
    for block in blocks(page, "python"):
        compile(block.code, str(page), "exec")
        assert block.how in ("", "slow") or block.how.startswith("needs ")


def test_there_are_blocks():
    assert len(WITH_CODE) > 8
    assert {"start.md", "index.md"} <= {name(page) for page in WITH_CODE}


def test_no_block_is_fenced_in_another_way():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("```python") == len(blocks(page, "python")), page
        assert "~~~" not in text, page


def test_a_block_that_fails_names_the_line_of_its_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n<!-- test: slow -->\n```python\nx = 1\n1 / 0\n```\n")
    (block,) = blocks(page, "python")
    assert block.is_slow
    with pytest.raises(ZeroDivisionError) as failed:
        block.run({})
    assert failed.traceback[-1].lineno + 1 == 6
