"""Where the runs of these tests are."""

from pathlib import Path

import ase.io
import pytest
from ase.build import molecule

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, and the current one, with a structure in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    ase.io.write("water.xyz", molecule("H2O"))
    return tmp_path
