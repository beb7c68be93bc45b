"""What is said of the installation."""

import ase_srdft
from ase_srdft.dft.kernels.library import description


def test_it_names_versions_and_what_computes():
    text = ase_srdft.about()
    assert text.startswith(f"ase_srdft {ase_srdft.__version__}, Python 3.")
    assert description() in text
    assert "torch 2." in text
