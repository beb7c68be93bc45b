"""Blocks of code on the pages of the documentation, and what is said of running them.

A comment before a block says how it is tested: ``<!-- test: slow -->`` leaves it, and with it all
of the page, to the slow tests; ``<!-- test: needs rdkit -->`` runs it where that is installed.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted((REPOSITORY / "docs").rglob("*.md"))
_BLOCK = re.compile(
    r"(?:^<!-- test: (?P<how>[^>]*) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """What stands between two fences.

    Attributes:
        page: the file.
        line: of its first line of code, from 1.
        how: of the comment before it; empty if there is none.
    """

    page: Path
    line: int
    code: str
    how: str

    @property
    def is_slow(self):
        return self.how == "slow"

    @property
    def missing(self):
        """The module that it needs, if it is not installed."""
        needed = self.how.removeprefix("needs ") if self.how.startswith("needs ") else ""
        return needed if needed and find_spec(needed) is None else ""

    def run(self, names):
        """Run it with the names that the blocks before it have left."""
        code = "\n" * (self.line - 1) + self.code  # a traceback then has the page's lines
        exec(compile(code, str(self.page), "exec"), names)


def blocks(page, language):
    """All of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text[: found.start("code")].count("\n") + 1,
            code=found["code"],
            how=(found["how"] or "").strip(),
        )
        for found in _BLOCK.finditer(text)
        if found["language"] == language
    ]
