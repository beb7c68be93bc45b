"""What every test shares: runtime shape checks on the package, and the way to the rMD17 frames."""

import os
import sys
from pathlib import Path

import pytest

from tests.tools import shape_checks

# One thread for each operation: the arrays are small, and on a busy machine the threads of an
# operation wait for each other.  Must be said before torch and PySCF are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if "ase_srdft" in sys.modules:
    raise RuntimeError("ase_srdft was imported before its shape checks could be installed")
shape_checks.install("ase_srdft")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def md17_folder() -> Path:
    """The folder of rMD17 frames: $ASE_SRDFT_DATA, else shared/data beside the repository."""
    folder = Path(os.environ.get("ASE_SRDFT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not any(folder.glob("rmd17_*.npz")):
        pytest.skip(f"no rmd17_*.npz in {folder}; name their folder in ASE_SRDFT_DATA")
    return folder
