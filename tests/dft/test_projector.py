"""Occupied projector and orthogonaliser: closed forms, derivatives, degenerate levels."""

import numpy as np
import pytest
import torch

from ase_srdft.common.errors import BadInput
from ase_srdft.dft.projector import (
    inverse_square_root,
    occupied_projector,
    span_projector,
)
from tests.tools.molecules import assert_gradient, symmetric

#: Eigenvalues of a Fock matrix with three occupied levels, and of an overlap matrix.
LEVELS = {
    "apart": [-3.0, -1.5, -1.0, 0.2, 0.9, 2.0],
    "degenerate occupied": [-1.0, -1.0, -1.0, 0.2, 0.9, 2.0],
    "degenerate virtual": [-3.0, -1.5, -1.0, 0.5, 0.5, 0.5],
    "degenerate on both sides": [-1.0, -1.0, -1.0, 0.5, 0.5, 0.5],
    "small gap": [-3.0, -1.5, -0.01, 0.01, 0.9, 2.0],
}
OVERLAPS = {
    "apart": [0.1, 0.3, 0.7, 1.0, 1.6, 2.3],
    "degenerate": [0.1, 1.0, 1.0, 1.0, 1.6, 2.3],
    "identity": [1.0] * 6,
    "ill-conditioned": [1e-4, 2e-4, 0.7, 1.0, 1.6, 2.3],
}
NOCC = 3


def with_eigenvalues(values, seed=0):
    matrix = np.random.default_rng(seed).standard_normal((len(values), len(values)))
    vectors = torch.tensor(np.linalg.qr(matrix)[0])
    return ((vectors * torch.tensor(values, dtype=torch.float64)) @ vectors.T)[None]


def symmetrised(matrix):
    return 0.5 * (matrix + matrix.transpose(-1, -2))


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_projector_projects_on_the_lowest(levels):
    fock = with_eigenvalues(levels)
    projector, energies, vectors = occupied_projector(fock, NOCC)
    torch.testing.assert_close(projector @ projector, projector, rtol=0, atol=1e-14)
    torch.testing.assert_close(projector @ fock, fock @ projector, rtol=0, atol=1e-13)
    assert float(projector.diagonal(dim1=1, dim2=2).sum()) == pytest.approx(NOCC, abs=1e-13)
    assert float((projector * fock).sum()) == pytest.approx(sum(levels[:NOCC]), abs=1e-12)
    np.testing.assert_allclose(energies[0], levels, atol=1e-13)
    rebuilt = vectors @ torch.diag_embed(energies) @ vectors.transpose(-1, -2)
    torch.testing.assert_close(rebuilt, fock, rtol=0, atol=1e-13)


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_projector_backward_by_finite_differences(levels):
    fock = with_eigenvalues(levels)
    cotangent = torch.tensor(np.random.default_rng(1).standard_normal(fock.shape))
    start = fock.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(occupied_projector(start, NOCC)[0], start, cotangent)
    assert bool(torch.isfinite(gradient).all())
    torch.testing.assert_close(gradient, gradient.transpose(-1, -2), rtol=1e-12, atol=1e-12)
    direction = symmetric(*fock.shape, seed=2)

    def value(step):
        return (occupied_projector(fock + step * direction, NOCC)[0] * cotangent).sum()

    gap = levels[NOCC] - levels[NOCC - 1]
    assert_gradient(
        value,
        (gradient * direction).sum().reshape(()),
        torch.zeros((), dtype=torch.float64),
        step=1e-3 * gap,
        rtol=1e-7,
    )


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_projector_passes_gradcheck(levels):
    fock = with_eigenvalues(levels).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda matrix: occupied_projector(symmetrised(matrix), NOCC)[0], fock, eps=1e-6, atol=1e-5
    )


def test_projector_is_the_limit_of_a_gradient_through_eigenvectors():
    """Against torch's own derivative of eigh, where it exists."""
    fock = with_eigenvalues(LEVELS["apart"]).requires_grad_()
    cotangent = symmetric(*fock.shape, seed=3)
    (ours,) = torch.autograd.grad(occupied_projector(fock, NOCC)[0], fock, cotangent)
    occupied = torch.linalg.eigh(fock)[1][..., :NOCC]
    projector = occupied @ occupied.transpose(-1, -2)
    (theirs,) = torch.autograd.grad(projector, fock, cotangent)
    assert float(ours.abs().max()) > 0.1
    torch.testing.assert_close(ours, symmetrised(theirs), rtol=0, atol=1e-12)


def test_orbitals_carry_no_derivative():
    _, energies, vectors = occupied_projector(
        with_eigenvalues(LEVELS["apart"]).requires_grad_(), NOCC
    )
    assert not energies.requires_grad
    assert not vectors.requires_grad


def test_everything_occupied_is_the_identity_and_does_not_respond():
    fock = with_eigenvalues(LEVELS["apart"]).requires_grad_()
    projector, _, _ = occupied_projector(fock, 6)
    torch.testing.assert_close(projector[0].detach(), torch.eye(6, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(projector.square().sum() + fock.sum(), fock)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))


@pytest.mark.parametrize("values", OVERLAPS.values(), ids=OVERLAPS)
def test_orthogonaliser_orthogonalises(values):
    overlap = with_eigenvalues(values)
    orthogonaliser = inverse_square_root(overlap)
    transposed = orthogonaliser.transpose(-1, -2)
    torch.testing.assert_close(orthogonaliser, transposed, rtol=0, atol=1e-11)
    identity = (orthogonaliser @ overlap @ orthogonaliser)[0]
    torch.testing.assert_close(identity, torch.eye(6, dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("values", OVERLAPS.values(), ids=OVERLAPS)
def test_orthogonaliser_backward_by_finite_differences(values):
    overlap = with_eigenvalues(values)
    cotangent = torch.tensor(np.random.default_rng(4).standard_normal(overlap.shape))
    start = overlap.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(inverse_square_root(start), start, cotangent)
    assert bool(torch.isfinite(gradient).all())
    direction = symmetric(*overlap.shape, seed=5)

    def value(step):
        return (inverse_square_root(overlap + step * direction) * cotangent).sum()

    assert_gradient(
        value,
        (gradient * direction).sum().reshape(()),
        torch.zeros((), dtype=torch.float64),
        step=1e-2 * min(values),
        rtol=1e-6,
    )


@pytest.mark.parametrize("name", ["apart", "degenerate", "identity"])
def test_orthogonaliser_passes_gradcheck(name):
    overlap = with_eigenvalues(OVERLAPS[name]).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda matrix: inverse_square_root(symmetrised(matrix)), overlap, eps=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("smallest", [1e-9, 0.0, -0.5])
def test_a_singular_overlap_is_refused(smallest):
    with pytest.raises(BadInput, match="smallest eigenvalue of the overlap matrix"):
        inverse_square_root(with_eigenvalues([smallest, 0.5, 1.0]))


def columns(nocc=NOCC, condition=1.0):
    """Random columns (2, 6, nocc), the last one nearly a multiple of the first."""
    random = torch.tensor(np.random.default_rng(5).standard_normal((2, 6, nocc)))
    if condition > 1.0:
        random[..., -1] = random[..., 0] + random[..., -1] / condition
    return random


@pytest.mark.parametrize("nocc", [1, 3, 6])
def test_span_projector_is_the_least_squares_projector(nocc):
    given = columns(nocc)
    projector, vectors = span_projector(given)
    expected = given @ torch.linalg.pinv(given)
    torch.testing.assert_close(projector, expected, rtol=0, atol=1e-13)
    identity = torch.eye(6, dtype=torch.float64).expand(2, 6, 6)
    torch.testing.assert_close(vectors.mT @ vectors, identity, rtol=0, atol=1e-13)
    spanned = vectors[..., :nocc]
    torch.testing.assert_close(spanned @ spanned.mT, projector, rtol=0, atol=1e-13)


@pytest.mark.parametrize("condition", [1.0, 1e3])
def test_span_projector_backward_by_finite_differences(condition):
    given = columns(condition=condition)
    cotangent = torch.tensor(np.random.default_rng(6).standard_normal((2, 6, 6)))
    start = given.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(span_projector(start)[0], start, cotangent)

    def value(x):
        return (span_projector(x)[0] * cotangent).sum()

    assert_gradient(value, gradient, given, rtol=1e-5, step=1e-3 / condition)


def test_span_does_not_depend_on_how_its_columns_are_mixed_or_signed():
    given = columns()
    turn = torch.tensor(np.random.default_rng(7).standard_normal((3, 3)))
    other = (given @ turn).requires_grad_()
    torch.testing.assert_close(
        span_projector(other)[0].detach(), span_projector(given)[0], rtol=0, atol=1e-12
    )
    cotangent = symmetric(2, 6, 6)
    (gradient,) = torch.autograd.grad(span_projector(other)[0], other, cotangent)
    assert float(gradient.abs().max()) > 0.1
    # along the columns themselves nothing changes
    inside = (gradient.mT @ other.detach()).abs().max()
    assert float(inside) < 1e-10


def test_columns_without_a_span_are_refused():
    given = columns()
    given[1, :, 2] = 2.0 * given[1, :, 1]
    with pytest.raises(torch.linalg.LinAlgError, match="3 predicted orbitals are linearly depend"):
        span_projector(given)
