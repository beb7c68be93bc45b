"""What the tests of the documentation share."""

import importlib
import sys

import pytest

from tests.tools.markdown_blocks import REPOSITORY


@pytest.fixture
def docs_extension(monkeypatch):
    """A module of ``docs/extensions`` by its name, which is forgotten afterwards."""
    pytest.importorskip("sphinx")
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs" / "extensions"))
    names = []

    def load(name):
        names.append(name)
        return importlib.import_module(name)

    yield load
    for name in names:
        sys.modules.pop(name)
