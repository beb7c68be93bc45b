"""A pytest plugin: the tests are of the kernels in the folder that SANITIZED_KERNELS names."""

import os
from pathlib import Path


def pytest_configure():
    from ase_srdft.dft.kernels import library

    library.FOLDER = Path(os.environ["SANITIZED_KERNELS"])
    assert Path(library.chosen().library._name).parent == library.FOLDER
