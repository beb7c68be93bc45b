"""The semilocal terms of the functionals of closed shells, pointwise, with closed derivatives.

Each function takes :class:`DensityVariables` and returns the energy per volume e, de/drho and
de/dsigma.  They are what a Kohn-Sham evaluation spends its pointwise time on: a few shared powers
instead of a graph.  Being torch, they give second derivatives by autograd.  Constants are those of
libxc, so that energies agree with PySCF.

Sources: exchange of the uniform gas, P. A. M. Dirac (1930); VWN, S. H. Vosko, L. Wilk, M. Nusair,
Can. J. Phys. 58, 1200 (1980), equation 4.4; PW92, J. P. Perdew and Y. Wang, Phys. Rev. B 45, 13244
(1992), equation 10; PBE, J. P. Perdew, K. Burke and M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996),
equations 3, 7, 8 and 10 to 14; B88, A. D. Becke, Phys. Rev. A 38, 3098 (1988), equation 8; LYP,
B. Miehlich, A. Savin, H. Stoll and H. Preuss, Chem. Phys. Lett. 157, 200 (1989), equation 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ase_srdft.dft.level_of_theory import Functional

__all__ = ["DENSITY_THRESHOLD", "TERMS", "DensityVariables", "energy_and_derivatives"]

#: Below this density (Bohr^-3) a point contributes nothing.
DENSITY_THRESHOLD = 1.0e-13

_SLATER = (3.0 / math.pi) ** (1.0 / 3.0)
_WIGNER_SEITZ = (3.0 / (4.0 * math.pi)) ** (1.0 / 3.0)
_PBE_BETA = 0.06672455060314922
_PBE_GAMMA = (1.0 - math.log(2.0)) / math.pi**2
_PBE_KAPPA = 0.804
_PBE_MU = _PBE_BETA * math.pi**2 / 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class DensityVariables:
    """What the terms share.

    Attributes:
        rho: density (Bohr^-3), positive.
        cube_root: rho^(1/3).
        sigma: |grad rho|^2 (Bohr^-8).
    """

    rho: Tensor
    cube_root: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, rho: Tensor, sigma: Tensor) -> DensityVariables:
        """The cube root by logarithm: torch's power is five times slower."""
        return cls(rho=rho, cube_root=torch.exp(torch.log(rho) / 3.0), sigma=sigma)


Derivatives = tuple[Tensor, Tensor, Tensor | None]


def _slater(at: DensityVariables) -> Derivatives:
    by_rho = -_SLATER * at.cube_root
    return 0.75 * by_rho * at.rho, by_rho, None


def _vwn(at: DensityVariables, amplitude: float, x0: float, b: float, c: float) -> Derivatives:
    x = torch.sqrt(_WIGNER_SEITZ / at.cube_root)
    big_x = x * x + b * x + c
    q = math.sqrt(4.0 * c - b * b)
    arctan = (2.0 / q) * torch.atan(q / (2.0 * x + b))
    arctan_slope = -4.0 / ((2.0 * x + b) ** 2 + q * q)
    log_slope = (2.0 * x + b) / big_x
    weight = b * x0 / (x0 * x0 + b * x0 + c)
    energy = torch.log(x * x / big_x) + b * arctan
    energy = energy - weight * (torch.log((x - x0) ** 2 / big_x) + (b + 2.0 * x0) * arctan)
    slope = 2.0 / x - log_slope + b * arctan_slope
    slope = slope - weight * (2.0 / (x - x0) - log_slope + (b + 2.0 * x0) * arctan_slope)
    # rho dx/drho = -x/6
    by_rho = amplitude * (energy - x * slope / 6.0)
    return amplitude * at.rho * energy, by_rho, None


def _vwn5(at: DensityVariables) -> Derivatives:
    return _vwn(at, 0.0310907, -0.10498, 3.72744, 12.9352)


def _vwn_rpa(at: DensityVariables) -> Derivatives:
    return _vwn(at, 0.0310907, -0.409286, 13.0720, 42.7198)


def _pbe_exchange(at: DensityVariables) -> Derivatives:
    # s^2 = sigma q, q = 1 / (4 (3 pi^2)^(2/3) rho^(8/3)); F = 1 + kappa - kappa / D
    root = at.rho * at.cube_root
    q = (0.25 / (3.0 * math.pi**2) ** (2.0 / 3.0)) / (root * root)
    s2 = at.sigma * q
    inverse = 1.0 / (1.0 + (_PBE_MU / _PBE_KAPPA) * s2)
    enhancement = 1.0 + _PBE_KAPPA - _PBE_KAPPA * inverse
    slope = _PBE_MU * inverse * inverse  # dF/ds^2
    uniform = (-0.75 * _SLATER) * root
    # rho ds^2/drho = -8/3 s^2
    by_rho = -_SLATER * at.cube_root * (enhancement - 2.0 * s2 * slope)
    return uniform * enhancement, by_rho, uniform * slope * q


def _perdew_wang(at: DensityVariables) -> tuple[Tensor, Tensor]:
    """Correlation energy per electron epsilon of the uniform gas, and rho depsilon/drho."""
    amplitude, alpha = 0.0310907, 0.21370
    b1, b2, b3, b4 = (2.0 * amplitude * b for b in (7.5957, 3.5876, 1.6382, 0.49294))
    rs = _WIGNER_SEITZ / at.cube_root
    x = torch.sqrt(rs)
    series = x * (b1 + x * (b2 + x * (b3 + x * b4)))
    slope = x * (b1 + x * (2.0 * b2 + x * (3.0 * b3 + x * (4.0 * b4))))  # x d(series)/dx
    logarithm = torch.log1p(1.0 / series)
    prefactor = -2.0 * amplitude * (1.0 + alpha * rs)
    # rho d/drho is -1/3 r_s d/dr_s, and -1/6 x d/dx
    by_rho = (2.0 * amplitude * alpha / 3.0) * rs * logarithm
    by_rho = by_rho + prefactor * slope / (6.0 * series * (series + 1.0))
    return prefactor * logarithm, by_rho


def _pbe_correlation(at: DensityVariables) -> Derivatives:
    # e = rho (epsilon + H), H = gamma ln(1 + g), g = beta/gamma t^2 (1 + y) / (1 + y + y^2),
    # y = A t^2, A = beta/gamma / w, w = exp(-epsilon/gamma) - 1
    local, local_slope = _perdew_wang(at)
    ratio = _PBE_BETA / _PBE_GAMMA
    q = (math.pi / (16.0 * (3.0 * math.pi**2) ** (1.0 / 3.0))) / (at.cube_root * at.rho * at.rho)
    t2 = ratio * q * at.sigma  # beta/gamma t^2
    w = torch.expm1(local / -_PBE_GAMMA)
    y = t2 / w
    inverse = 1.0 / (1.0 + y + y * y)
    g = t2 * (1.0 + y) * inverse
    common = _PBE_GAMMA / (1.0 + g) * inverse * inverse
    by_t2 = common * (1.0 + 2.0 * y)  # dH/d(beta/gamma t^2) at fixed A
    # dH/depsilon through y: dg/dy = -beta/gamma t^2 y (2 + y) / (1 + y + y^2)^2 and
    # dy/depsilon = y (1 + w) / (gamma w)
    by_local = common * t2 * y * y * (2.0 + y) * (1.0 + w) / (-_PBE_GAMMA * w)
    energy = local + _PBE_GAMMA * torch.log1p(g)
    # rho dt^2/drho = -7/3 t^2
    by_rho = energy + local_slope * (1.0 + by_local) - (7.0 / 3.0) * t2 * by_t2
    return at.rho * energy, by_rho, at.rho * by_t2 * (ratio * q)


def _b88(at: DensityVariables) -> Derivatives:
    beta = 0.0042
    power = 2.0 ** (-4.0 / 3.0) * at.rho * at.cube_root  # (rho/2)^(4/3)
    x = 0.5 * at.sigma.clamp(min=1.0e-40).sqrt() / power
    hypotenuse = torch.sqrt(1.0 + x * x)
    arsinh = torch.log1p(x + x * x / (1.0 + hypotenuse))  # torch.asinh is eight times slower
    inverse = 1.0 / (1.0 + 6.0 * beta * x * arsinh)
    gradient = beta * x * x * inverse
    slope = arsinh + x / hypotenuse
    slope = beta * inverse * (2.0 - 6.0 * beta * x * inverse * slope)  # dg/dx / x
    uniform, uniform_slope, _ = _slater(at)
    # rho dx/drho = -4/3 x and dx/dsigma = x / (2 sigma)
    by_rho = uniform_slope - (8.0 / 3.0) * power / at.rho * (gradient - x * x * slope)
    return uniform - 2.0 * power * gradient, by_rho, -0.25 * slope / power


def _lyp(at: DensityVariables) -> Derivatives:
    # For a closed shell, Miehlich's form is
    # e = -a D rho - a b E D (C_F rho - sigma rho^(-5/3) (3 + 7 delta) / 72), E = exp(-c rho^(-1/3))
    a, b, c, d = 0.04918, 0.132, 0.2533, 0.349
    fermi = 0.3 * (3.0 * math.pi**2) ** (2.0 / 3.0)
    inverse_root = 1.0 / at.cube_root
    damping = 1.0 / (1.0 + d * inverse_root)
    m = d * inverse_root * damping  # rho dD/drho = D m / 3
    delta = c * inverse_root + m  # rho d(E D)/drho = E D delta / 3
    delta_slope = -(c * inverse_root + m * damping) / 3.0  # rho ddelta/drho
    decay = (a * b) * torch.exp(-c * inverse_root) * damping
    power = inverse_root * inverse_root / (72.0 * at.rho)  # rho^(-5/3) / 72
    by_sigma = decay * power * (3.0 + 7.0 * delta)
    energy = -a * damping * at.rho - decay * fermi * at.rho + by_sigma * at.sigma
    by_rho = -a * damping * (1.0 + m / 3.0) - decay * fermi * (1.0 + delta / 3.0)
    gradient_slope = (delta - 5.0) / 3.0 * by_sigma + 7.0 * decay * power * delta_slope
    return energy, by_rho + gradient_slope * at.sigma / at.rho, by_sigma


TERMS: dict[str, Callable[[DensityVariables], Derivatives]] = {
    "slater": _slater,
    "vwn5": _vwn5,
    "vwn_rpa": _vwn_rpa,
    "pbe_x": _pbe_exchange,
    "pbe_c": _pbe_correlation,
    "b88": _b88,
    "lyp": _lyp,
}


def energy_and_derivatives(
    functional: Functional, rho: Tensor, sigma: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """e (Hartree/Bohr^3), de/drho and de/dsigma of a functional's semilocal part.

    Zero where the density is below `DENSITY_THRESHOLD`.

    Args:
        functional: the terms and their weights.
        rho: density, any shape.
        sigma: |grad rho|^2; None where the functional has no gradient correction.
    """
    populated = (rho > DENSITY_THRESHOLD).to(rho.dtype)
    safe = rho.clamp(min=DENSITY_THRESHOLD)
    at = DensityVariables.of(safe, safe if sigma is None else sigma)
    totals = [torch.zeros_like(rho) for _ in range(3)]
    for name, weight in functional.terms:
        for i, part in enumerate(TERMS[name](at)):
            if part is not None:
                totals[i] = torch.add(totals[i], part, alpha=weight)
    energy, by_rho, by_sigma = (populated * total for total in totals)
    return energy, by_rho, by_sigma
