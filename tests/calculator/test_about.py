"""What is said of the installation."""

import ase_srdft
from ase_srdft.dft.kernels.library import description, threads


def test_it_names_versions_and_what_computes():
    text = ase_srdft.about()
    assert text.startswith(f"ase_srdft {ase_srdft.__version__}, Python 3.")
    assert description() in text
    assert "torch 2." in text


def test_it_says_how_many_threads_are_in_force():
    assert ase_srdft.about().endswith(", 1 thread")
    with threads(3):
        assert ase_srdft.about().endswith(", 3 threads")
