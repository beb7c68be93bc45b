"""Auxiliary functions as tensors of one scale: Coulomb energies are kept."""

import numpy as np
import pytest
import torch

from ase_srdft.dft.basis.element_basis import lone_atom
from ase_srdft.dft.level_of_theory import LevelOfTheory
from ase_srdft.dft.molecule import Molecule
from ase_srdft.models.potential.auxiliary_layout import auxiliary_layout, functions_per_momentum

NAME = "def2-universal-jfit"
CPU = torch.device("cpu")


def layout_of(numbers, elements=(1, 6, 8), **level):
    molecule = Molecule(numbers=numbers, level=LevelOfTheory(**level), potential_basis=NAME)
    width = functions_per_momentum(NAME, elements)
    return auxiliary_layout(molecule, elements, width, CPU)


@pytest.mark.parametrize("level", [{"xc": "PBE"}, {"xc": "B3LYP"}])
@pytest.mark.parametrize("number", [8, 6])
def test_what_is_read_of_one_atom_has_the_norm_of_its_coulomb_energy(number, level):
    layout = layout_of((number,), **level)
    metric = lone_atom(NAME, number).intor("int2c2e")
    size = int((layout.places < layout.naux).sum())  # functions of l up to 2
    assert size < len(metric)
    density = np.zeros(layout.naux)
    density[:size] = np.random.default_rng(0).standard_normal(size)
    potential = np.zeros(layout.naux)
    potential[:size] = metric[:size, :size] @ density[:size]
    read = layout.read(torch.tensor(np.stack([potential, density])[None, :, None]))
    of_potential, of_density = read.reshape(9, 2, -1).unbind(1)
    energy = density[:size] @ potential[:size]
    np.testing.assert_allclose(float(of_density.square().sum()), energy, rtol=1e-7)
    torch.testing.assert_close(of_potential, of_density, rtol=1e-6, atol=1e-6)


def test_what_is_written_is_dual_to_what_is_read():
    """u w = y (L^-1 w): the energy of a density in the written potential."""
    layout = layout_of((8, 1, 1))
    rng = np.random.default_rng(1)
    tensors = torch.tensor(rng.standard_normal((2, 3, 9, layout.potentials.shape[2])))
    potential = torch.tensor(rng.standard_normal((2, 1, 1, layout.naux)))
    read = layout.read(torch.cat([potential, torch.zeros_like(potential)], 1))
    read = read[..., : tensors.shape[-1]]
    found = (layout.coefficients(tensors) * potential[:, 0, 0]).sum(-1)
    torch.testing.assert_close(found, (read * tensors).flatten(1).sum(-1), rtol=1e-10, atol=1e-10)


def test_atoms_with_fewer_functions_are_padded():
    layout = layout_of((1, 8), charge=-1)
    assert layout.places.shape[0] == 2
    assert int((layout.places[0] == layout.naux).sum()) > 0  # hydrogen has fewer
    known = layout.places[layout.places < layout.naux]
    assert len(known.unique()) == len(known) < layout.naux
    np.testing.assert_array_equal(layout.elements, [[1, 0, 0], [0, 0, 1]])
    u = layout.coefficients(torch.ones(1, 2, 9, layout.potentials.shape[2], dtype=torch.float64))
    touched = set(u[0].nonzero()[:, 0].tolist())
    assert touched <= set(known.tolist())
    assert len(touched) > 10
