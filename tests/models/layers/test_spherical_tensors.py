"""Real harmonics and their couplings: closed forms, equivariance, schnetpack's own table."""

import itertools

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from ase_srdft.models.layers.schnetpack_shim import schnetpack_modules
from ase_srdft.models.layers.spherical_tensors import (
    component_slice,
    coupling_table,
    ncomponents,
    real_clebsch_gordan,
    spherical_harmonics,
)
from tests.tools.molecules import harmonics_rotation, rotation_matrix

LMAX = 4
TRIPLES = [
    (l1, l2, l3)
    for l1, l2 in itertools.product(range(LMAX + 1), repeat=2)
    for l3 in range(abs(l1 - l2), min(l1 + l2, LMAX) + 1)
]


def directions(n=60, seed=0):
    vectors = torch.tensor(np.random.default_rng(seed).standard_normal((n, 3)))
    return vectors / vectors.norm(dim=-1, keepdim=True)


def harmonics_matrix(rotation):
    """D with Y(R d) = D Y(d), block-diagonal in l, (ncomponents, ncomponents)."""
    blocks = [harmonics_rotation(angular, rotation) for angular in range(LMAX + 1)]
    return torch.block_diag(*blocks).numpy()


def test_components_are_counted():
    assert [ncomponents(lmax) for lmax in range(4)] == [1, 4, 9, 16]
    parts = [list(range(16))[component_slice(angular)] for angular in range(4)]
    assert [index for part in parts for index in part] == list(range(16))
    assert [len(part) for part in parts] == [1, 3, 5, 7]


def test_harmonics_are_scipys():
    points = directions()
    values = spherical_harmonics(points, LMAX).numpy()
    x, y, z = points.numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    for angular in range(LMAX + 1):
        for m in range(-angular, angular + 1):
            complex_value = sph_harm_y(angular, abs(m), theta, phi)
            part = complex_value.real if m >= 0 else complex_value.imag
            # the Condon-Shortley phase is scipy's, not ours
            expected = part * ((-1.0) ** m * np.sqrt(2.0) if m else 1.0)
            ours = values[:, angular**2 + angular + m]
            assert np.abs(expected).max() > 0.1
            np.testing.assert_allclose(ours, expected, atol=1e-13)


def test_vector_harmonics_are_y_z_x():
    points = directions()
    expected = np.sqrt(3.0 / (4.0 * np.pi)) * points[:, [1, 2, 0]]
    torch.testing.assert_close(spherical_harmonics(points, 1)[:, 1:], expected)


def test_harmonics_are_orthonormal_on_the_sphere():
    nodes, weights = np.polynomial.legendre.leggauss(LMAX + 1)
    azimuths = 2.0 * np.pi * np.arange(2 * LMAX + 1) / (2 * LMAX + 1)
    z, azimuth = (grid.ravel() for grid in np.meshgrid(nodes, azimuths, indexing="ij"))
    radius = np.sqrt(1.0 - z * z)
    points = np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), z], -1)
    measure = np.repeat(weights, len(azimuths)) * 2.0 * np.pi / len(azimuths)
    values = spherical_harmonics(torch.tensor(points), LMAX).numpy()
    overlap = (values * measure[:, None]).T @ values
    np.testing.assert_allclose(overlap, np.eye(ncomponents(LMAX)), atol=1e-13)


def test_harmonics_have_the_parity_of_l():
    points = directions()
    here, there = spherical_harmonics(points, LMAX), spherical_harmonics(-points, LMAX)
    for angular in range(LMAX + 1):
        columns = component_slice(angular)
        sign = (-1.0) ** angular
        torch.testing.assert_close(there[:, columns], sign * here[:, columns], rtol=0, atol=1e-14)


def test_harmonics_are_differentiable():
    points = directions(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: spherical_harmonics(d, LMAX), points)


def test_harmonics_are_finite_at_the_poles():
    points = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]], dtype=torch.float64)
    points.requires_grad_()
    values = spherical_harmonics(points, LMAX)
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert bool(torch.isfinite(values).all())
    assert bool(torch.isfinite(gradient).all())


@pytest.mark.parametrize(("l1", "l2", "l3"), TRIPLES)
def test_couplings_are_orthonormal(l1, l2, l3):
    coupling = real_clebsch_gordan(l1, l2, l3)
    overlap = np.einsum("abc,abd->cd", coupling, coupling)
    np.testing.assert_allclose(overlap, np.eye(2 * l3 + 1), atol=1e-13)


@pytest.mark.parametrize(("l1", "l2"), list(itertools.product(range(3), repeat=2)))
def test_couplings_of_two_shells_are_complete(l1, l2):
    rows = [real_clebsch_gordan(l1, l2, l3) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
    table = np.concatenate([row.reshape(-1, row.shape[2]) for row in rows], 1)
    np.testing.assert_allclose(table @ table.T, np.eye(len(table)), atol=1e-13)


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize(("l1", "l2", "l3"), TRIPLES)
def test_couplings_are_equivariant(l1, l2, l3, improper):
    matrix = harmonics_matrix(rotation_matrix(3, improper))
    left, right, out = (matrix[component_slice(x), component_slice(x)] for x in (l1, l2, l3))
    coupling = real_clebsch_gordan(l1, l2, l3)
    # an odd path couples true tensors to a pseudo-tensor
    sign = -1.0 if improper and (l1 + l2 + l3) % 2 else 1.0
    turned = np.einsum("ax,by,xyc->abc", left, right, coupling)
    np.testing.assert_allclose(turned, sign * coupling @ out, atol=1e-12)


def test_the_vector_product_is_the_odd_coupling_of_two_vectors():
    first, second = directions(2, seed=1).numpy()
    order = [1, 2, 0]  # (y, z, x)
    product = np.einsum("a,b,abc->c", first[order], second[order], real_clebsch_gordan(1, 1, 1))
    expected = np.cross(first, second)[order] / np.sqrt(2.0)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(np.abs(product @ expected), expected @ expected, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(product), np.linalg.norm(expected), atol=1e-13)


@pytest.mark.parametrize("lmax", [1, 2])
def test_even_table_is_schnetpacks(lmax):
    schnetpack_modules()
    from schnetpack.nn.ops.so3 import generate_clebsch_gordan_rsh

    expected = generate_clebsch_gordan_rsh(lmax).numpy()
    assert np.abs(expected).max() == pytest.approx(1.0)
    np.testing.assert_allclose(coupling_table(lmax, 0), expected, atol=1e-7)


def test_tables_share_no_path():
    even, odd = (coupling_table(2, parity) for parity in (0, 1))
    assert np.abs(even).max() > 0.1
    assert np.abs(odd).max() > 0.1
    assert not (even * odd).any()
    # a product with oneself has no odd part: they are antisymmetric between equal l
    vectors = component_slice(1)
    antisymmetric = odd[vectors, vectors] + odd[vectors, vectors].transpose(1, 0, 2)
    np.testing.assert_allclose(antisymmetric, np.zeros_like(antisymmetric), atol=1e-14)
