"""Exchange-correlation energy densities of closed shells, pointwise in torch.

Every function takes the spin-summed density ``rho`` (Bohr^-3) and, for gradient corrections,
``sigma = |grad rho|^2`` (Bohr^-8), any shape, and returns the energy per volume (Hartree/Bohr^3).
Constants are those of libxc.  These are the published definitions, with derivatives by autograd:
the oracle of the closed derivatives in :mod:`ase_srdft.dft.xc.functionals`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ase_srdft.dft.level_of_theory import Functional
from ase_srdft.dft.xc.functionals import DENSITY_THRESHOLD

#: r_s rho^(1/3), k_F rho^(-1/3) and the energy density of Dirac's exchange over rho^(4/3).
_WIGNER_SEITZ: float = (3.0 / (4.0 * math.pi)) ** (1.0 / 3.0)
_FERMI: float = (3.0 * math.pi**2) ** (1.0 / 3.0)
_DIRAC: float = -0.75 * (3.0 / math.pi) ** (1.0 / 3.0)
_TWO_TO_11_THIRDS: float = 2.0 ** (11.0 / 3.0)

_PBE_BETA = 0.06672455060314922
_PBE_GAMMA = (1.0 - math.log(2.0)) / math.pi**2
_PBE_KAPPA = 0.804
_PBE_MU = _PBE_BETA * math.pi**2 / 3.0


def _wigner_seitz_radius(rho: Tensor) -> Tensor:
    return _WIGNER_SEITZ * rho.pow(-1.0 / 3.0)


def slater_exchange(rho: Tensor, sigma: Tensor) -> Tensor:
    """Exchange of the uniform electron gas (Dirac 1930, Slater 1951)."""
    return _DIRAC * rho.pow(4.0 / 3.0)


def _vwn(rho: Tensor, amplitude: float, x0: float, b: float, c: float) -> Tensor:
    # Vosko, Wilk, Nusair 1980, equation 4.4; x = sqrt(r_s), X(x) = x^2 + b x + c.
    x = _wigner_seitz_radius(rho).sqrt()
    big_x = x * x + b * x + c
    q = math.sqrt(4.0 * c - b * b)
    arctan = torch.atan(q / (2.0 * x + b))
    shifted = torch.log((x - x0) ** 2 / big_x) + 2.0 * (b + 2.0 * x0) / q * arctan
    bracket = (
        torch.log(x * x / big_x) + 2.0 * b / q * arctan - b * x0 / (x0 * x0 + b * x0 + c) * shifted
    )
    return rho * amplitude * bracket


def vwn5_correlation(rho: Tensor, sigma: Tensor) -> Tensor:
    """Correlation fitted to quantum Monte Carlo: VWN's fit number V."""
    return _vwn(rho, 0.0310907, -0.10498, 3.72744, 12.9352)


def vwn_rpa_correlation(rho: Tensor, sigma: Tensor) -> Tensor:
    """Correlation fitted to the random phase approximation: the VWN of Gaussian's B3LYP."""
    return _vwn(rho, 0.0310907, -0.409286, 13.0720, 42.7198)


def pbe_exchange(rho: Tensor, sigma: Tensor) -> Tensor:
    """Exchange of Perdew, Burke and Ernzerhof 1996, equations 10 to 14."""
    # s^2 = sigma / (4 (3 pi^2)^(2/3) rho^(8/3))
    s2 = sigma * rho.pow(-8.0 / 3.0) / (4.0 * _FERMI**2)
    enhancement = 1.0 + _PBE_KAPPA - _PBE_KAPPA / (1.0 + _PBE_MU / _PBE_KAPPA * s2)
    return slater_exchange(rho, sigma) * enhancement


def _perdew_wang_energy_per_electron(rho: Tensor) -> Tensor:
    # Perdew and Wang 1992, equation 10, zero polarisation; A as PySCF's libxc has it.
    amplitude, alpha = 0.0310907, 0.21370
    betas = (7.5957, 3.5876, 1.6382, 0.49294)
    rs = _wigner_seitz_radius(rho)
    root = rs.sqrt()
    series = betas[0] * root + betas[1] * rs + betas[2] * rs * root + betas[3] * rs * rs
    return -2.0 * amplitude * (1.0 + alpha * rs) * torch.log1p(0.5 / (amplitude * series))


def pbe_correlation(rho: Tensor, sigma: Tensor) -> Tensor:
    """Correlation of Perdew, Burke and Ernzerhof 1996, equations 3, 7 and 8."""
    local = _perdew_wang_energy_per_electron(rho)
    fermi = _FERMI * rho.pow(1.0 / 3.0)
    t2 = sigma * math.pi / (16.0 * fermi * rho * rho)
    ratio = _PBE_BETA / _PBE_GAMMA
    at2 = ratio / torch.expm1(-local / _PBE_GAMMA) * t2
    gradient = ratio * t2 * (1.0 + at2) / (1.0 + at2 + at2 * at2)
    return rho * (local + _PBE_GAMMA * torch.log1p(gradient))


def b88_exchange(rho: Tensor, sigma: Tensor) -> Tensor:
    """Exchange of Becke 1988, equation 8 (uniform-gas part included)."""
    beta = 0.0042
    spin_density = 0.5 * rho
    four_thirds = spin_density.pow(4.0 / 3.0)
    x = 0.5 * sigma.clamp(min=1.0e-40).sqrt() / four_thirds
    gradient = beta * x * x / (1.0 + 6.0 * beta * x * torch.asinh(x))
    return slater_exchange(rho, sigma) - 2.0 * four_thirds * gradient


def lyp_correlation(rho: Tensor, sigma: Tensor) -> Tensor:
    """Correlation of Lee, Yang and Parr 1988 in the form of Miehlich et al. 1989, closed shell."""
    a, b, c, d = 0.04918, 0.132, 0.2533, 0.349
    inverse_root = rho.pow(-1.0 / 3.0)
    damping = 1.0 / (1.0 + d * inverse_root)
    omega = torch.exp(-c * inverse_root) * damping * rho.pow(-11.0 / 3.0)
    delta = c * inverse_root + d * inverse_root * damping
    kinetic = 0.6 * _FERMI**2 * _TWO_TO_11_THIRDS * (0.5 * rho).pow(8.0 / 3.0)
    # rho_a = rho_b = rho/2 and sigma_aa = sigma_bb = sigma/4 in equation 2 of Miehlich et al.
    slope = (47.0 - 7.0 * delta) / 18.0 - (2.5 - delta / 18.0) / 2.0 - (delta - 11.0) / 36.0
    bracket = 0.25 * rho * rho * (kinetic + slope * sigma) - 11.0 / 24.0 * rho * rho * sigma
    return -a * rho * damping - a * b * omega * bracket


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "slater": slater_exchange,
    "vwn5": vwn5_correlation,
    "vwn_rpa": vwn_rpa_correlation,
    "pbe_x": pbe_exchange,
    "pbe_c": pbe_correlation,
    "b88": b88_exchange,
    "lyp": lyp_correlation,
}


def energy_density(functional: Functional, rho: Tensor, sigma: Tensor) -> Tensor:
    """Energy per volume of a functional's semilocal part (Hartree/Bohr^3), the shape of rho.

    Points below :data:`DENSITY_THRESHOLD` give zero, with zero derivatives.
    """
    populated = rho > DENSITY_THRESHOLD
    safe = torch.where(populated, rho, torch.ones_like(rho))
    safe_sigma = torch.where(populated, sigma, torch.zeros_like(sigma))
    total = sum(weight * TERMS[name](safe, safe_sigma) for name, weight in functional.terms)
    return torch.where(populated, total, torch.zeros_like(rho))
