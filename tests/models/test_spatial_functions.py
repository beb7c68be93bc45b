"""Names of orbitals; the values themselves are tested in ``dft`` and through the calculator."""

import pytest

from ase_srdft.common.errors import BadInput
from ase_srdft.models.spatial_functions import orbital_index


@pytest.mark.parametrize(
    ("what", "index"),
    [("homo", 4), ("lumo", 5), ("homo-4", 0), ("lumo+1", 6), ("Homo+1", 5), (0, 0), (6, 6)],
)
def test_orbitals_by_name_and_index(what, index):
    assert orbital_index(what, 5, 7) == index


@pytest.mark.parametrize("what", ["", "homos", "homo-", "lumo*2", "homo-5", "lumo+2", 7, -1, True])
def test_others_are_refused(what):
    with pytest.raises(BadInput, match=r"orbital|function of space"):
        orbital_index(what, 5, 7)
