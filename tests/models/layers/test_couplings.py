"""The bilinear maps against plain sums, in one piece and in many, and their adjoints."""

import pytest
import torch

from ase_srdft.models.layers import couplings
from ase_srdft.models.layers.couplings import couple, product


def tensors(*shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in shapes
    ]


@pytest.fixture(params=["one piece", "many pieces"], autouse=True)
def _pieces(request, monkeypatch):
    if request.param == "many pieces":
        monkeypatch.setattr(couplings, "_PIECE", 40)


def plain_couple(k, w, x):
    return torch.einsum("nslt,nlc,ntc->nsc", k.unflatten(2, (w.shape[1], -1)), w, x)


def plain_product(table, x, z):
    return torch.einsum("tab,nac,nbc->ntc", table.unflatten(1, (x.shape[1], -1)), x, z)


@pytest.mark.parametrize(
    ("ours", "plain", "shapes"),
    [
        (couple, plain_couple, [(5, 4, 8), (5, 2, 3), (5, 4, 3)]),
        (product, plain_product, [(6, 16), (5, 4, 3), (5, 4, 3)]),
    ],
)
def test_values_and_gradients(ours, plain, shapes):
    given = tensors(*shapes)
    if ours is product:
        given[0] = given[0].detach()  # a constant
    result, expected = ours(*given), plain(*given)
    assert float(expected.detach().abs().max()) > 0.1
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)
    (weights,) = tensors(expected.shape, seed=1)
    inputs = [t for t in given if t.requires_grad]
    for one, other in zip(
        torch.autograd.grad((result * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_only_the_gradients_that_are_wanted():
    k, w, x = tensors((5, 4, 8), (5, 2, 3), (5, 4, 3))
    expected = torch.autograd.grad(plain_couple(k, w, x).sum(), w)[0]
    own = couple(k.detach(), w, x.detach())
    torch.testing.assert_close(torch.autograd.grad(own.sum(), w)[0], expected, rtol=0, atol=1e-12)


def test_no_rows():
    assert couple(*tensors((0, 4, 8), (0, 2, 3), (0, 4, 3))).shape == (0, 4, 3)
    assert product(*tensors((6, 16), (0, 4, 3), (0, 4, 3))).shape == (0, 6, 3)
