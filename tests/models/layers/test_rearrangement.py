"""A permutation of entries, both ways, and its adjoint."""

import torch

from ase_srdft.models.layers.rearrangement import Rearrangement

ORDER = torch.tensor([2, 0, 3, 1])


def test_it_is_the_gather_and_its_inverse():
    rearrangement = Rearrangement(ORDER)
    x = torch.arange(24.0).reshape(2, 4, 3)
    there = rearrangement.there(x, 1)
    assert torch.equal(there, x[:, ORDER])
    assert torch.equal(rearrangement.back(there, 1), x)


def test_gradients_of_both_ways():
    rearrangement = Rearrangement(ORDER)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weights = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    (there,) = torch.autograd.grad((weights * rearrangement.there(x)).sum(), x)
    (back,) = torch.autograd.grad((weights * rearrangement.back(x)).sum(), x)
    assert torch.equal(there, (weights[torch.argsort(ORDER)]))
    assert torch.equal(back, weights[ORDER])
    assert torch.autograd.gradgradcheck(lambda y: rearrangement.there(y).square(), x)
