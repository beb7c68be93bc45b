// Sums over the orbitals on a block and their derivatives.
//
// With d = r - R_atom, chi = R(d^2) Y(d) and R_k = (1/x d/dx)^k R(x^2):
//
//   grad chi             = R_1 Y d + R_0 grad Y
//   grad (v . grad chi)  = [R_2 (v.d) Y + R_1 v.grad Y] d + R_1 Y v + R_1 (v.d) grad Y + R_0 Y'' v
//
// Y is homogeneous: d . grad Y = l Y.
#pragma once
#include "orbitals.hpp"

namespace srdft::grid {

// rho = sum u chi and its gradient 2 sum u grad chi, u = D chi
inline void add_density(const OrbitalsOnBlock& orbitals, const Vec* contracted, bool gradient,
                        Scalars& rho, Field& slopes) {
  for (int j = 0; j < VECTORS; ++j)
    rho[j] = slopes.x[0][j] = slopes.x[1][j] = slopes.x[2][j] = Vec{};
  if (!gradient) {
    for (int row = 0; row < orbitals.count(); ++row)
      for (int j = 0; j < VECTORS; ++j)
        rho[j] += contracted[row * STRIDE + j] * orbitals.values()[row * STRIDE + j];
    return;
  }
  for (std::size_t i = 0; i < orbitals.active().size(); ++i) {
    const auto& shell = orbitals.active()[i];
    const Vec *radial = orbitals.radial(static_cast<int>(i)),
              *u = contracted + shell.row * STRIDE,
              *displacement = orbitals.displacement(shell.atom);
    with_angular(shell.angular, [&](auto l) {
      constexpr int L = decltype(l)::value;
      for (int j = 0; j < VECTORS; ++j) {
        const Vec d[3] = {displacement[j], displacement[STRIDE + j], displacement[2 * STRIDE + j]};
        if constexpr (L == 0) {
          rho[j] += radial[j] * u[j];
          const Vec along = 2.0 * radial[STRIDE + j] * u[j];
          for (int k = 0; k < 3; ++k) slopes.x[k][j] += along * d[k];
        } else {
          Vec c[size_of(L)], g[3];
          for (int m = 0; m < size_of(L); ++m) c[m] = u[m * STRIDE + j];
          slope<L>(c, d, g);
          const Vec sum = (1.0 / L) * (d[0] * g[0] + d[1] * g[1] + d[2] * g[2]);
          rho[j] += radial[j] * sum;
          const Vec along = 2.0 * radial[STRIDE + j] * sum, across = 2.0 * radial[j];
          for (int k = 0; k < 3; ++k) slopes.x[k][j] += along * d[k] + across * g[k];
        }
      }
    });
  }
}

// a and v of an integrand a rho + v . grad rho; v only with gradient correction
struct Potential {
  Scalars scalar;
  Field vector;
};

// a chi / 2 + v . grad chi, whose product with chi^T plus transpose is the matrix
inline void half_apply(const OrbitalsOnBlock& orbitals, const Potential& potential, bool gradient,
                       Vec* applied) {
  if (!gradient) {
    for (int row = 0; row < orbitals.count(); ++row)
      for (int j = 0; j < VECTORS; ++j)
        applied[row * STRIDE + j] =
            0.5 * potential.scalar[j] * orbitals.values()[row * STRIDE + j];
    return;
  }
  for (std::size_t i = 0; i < orbitals.active().size(); ++i) {
    const auto& shell = orbitals.active()[i];
    const Vec *radial = orbitals.radial(static_cast<int>(i)),
              *displacement = orbitals.displacement(shell.atom);
    Vec* w = applied + shell.row * STRIDE;
    with_angular(shell.angular, [&](auto l) {
      constexpr int L = decltype(l)::value;
      for (int j = 0; j < VECTORS; ++j) {
        Dual d[3];
        for (int k = 0; k < 3; ++k)
          d[k] = {displacement[k * STRIDE + j], potential.vector.x[k][j]};
        const Vec along = d[0].value * d[0].slope + d[1].value * d[1].slope +
                          d[2].value * d[2].slope;  // v . d
        const Vec scale = 0.5 * potential.scalar[j] * radial[j] + along * radial[STRIDE + j];
        if constexpr (L == 0) {
          w[j] = scale;
        } else {
          Dual y[size_of(L)];
          harmonics<L>(d, y);
          for (int m = 0; m < size_of(L); ++m)
            w[m * STRIDE + j] = scale * y[m].value + radial[j] * y[m].slope;
        }
      }
    });
  }
}

// sum c grad chi over the components of a shell, added to total
template <int L>
inline void add_value_slope(const Vec* radial, const Vec (&d)[3], const Vec (&c)[size_of(L)],
                            Vec (&total)[3]) {
  const Vec r0 = radial[0], r1 = radial[STRIDE];
  if constexpr (L == 0) {
    for (int k = 0; k < 3; ++k) total[k] += r1 * c[0] * d[k];
  } else {
    Vec g[3];
    slope<L>(c, d, g);
    const Vec sum = (1.0 / L) * (d[0] * g[0] + d[1] * g[1] + d[2] * g[2]);
    for (int k = 0; k < 3; ++k) total[k] += r1 * sum * d[k] + r0 * g[k];
  }
}

// sum u grad (v . grad chi) over the components of a shell, added to total
template <int L>
inline void add_gradient_slope(const Vec* radial, const Vec (&d)[3], const Vec (&u)[size_of(L)],
                               const Vec (&v)[3], Vec (&total)[3]) {
  const Vec r0 = radial[0], r1 = radial[STRIDE], r2 = radial[2 * STRIDE];
  const Vec along = v[0] * d[0] + v[1] * d[1] + v[2] * d[2];
  if constexpr (L == 0) {
    for (int k = 0; k < 3; ++k) total[k] += u[0] * (r2 * along * d[k] + r1 * v[k]);
  } else {
    const Dual moved[3] = {{d[0], v[0]}, {d[1], v[1]}, {d[2], v[2]}};
    Dual g[3];
    slope<L>(u, moved, g);
    Vec sum = {}, across = {};  // sum u Y and sum u v . grad Y
    for (int k = 0; k < 3; ++k) {
      sum += (1.0 / L) * d[k] * g[k].value;
      across += v[k] * g[k].value;
    }
    const Vec scale = r2 * along * sum + r1 * across;
    for (int k = 0; k < 3; ++k)
      total[k] += scale * d[k] + r1 * (sum * v[k] + along * g[k].value) + r0 * g[k].slope;
  }
}

// u = D chi of a density, and the potential that multiplies that density
struct Factor {
  const Vec* contracted;
  const Potential* potential;
};

// Derivative of sum_g sum_f a_g rho_g + v_g . grad rho_g at fixed D, a, v.
//
// The cotangent of chi is c = sum_f 2 D (a chi / 2 + v . grad chi) + a u, that of v . grad chi 2 u.
// Orbitals of the atom that owns the points do not change; others gain what their centre moves
// against the points, and the owner loses it.
//
// half_cotangent: sum_f D (a chi / 2 + v . grad chi); without gradient correction it is not used,
// being sum_f a u / 2.
template <int FACTORS>
inline void add_position_gradient(const OrbitalsOnBlock& orbitals, const Vec* half_cotangent,
                                  const Factor (&factors)[FACTORS], bool gradient, int owner,
                                  double* by_nucleus) {
  for (std::size_t i = 0; i < orbitals.active().size(); ++i) {
    const auto& shell = orbitals.active()[i];
    if (shell.atom == owner) continue;
    Vec total[3] = {};
    with_angular(shell.angular, [&](auto l) {
      constexpr int L = decltype(l)::value;
      const Vec *radial = orbitals.radial(static_cast<int>(i)),
                *displacement = orbitals.displacement(shell.atom);
      for (int j = 0; j < VECTORS; ++j) {
        Vec d[3], v[3], c[size_of(L)], u[size_of(L)];
        for (int k = 0; k < 3; ++k) d[k] = displacement[k * STRIDE + j];
        for (int m = 0; m < size_of(L); ++m)
          c[m] = gradient ? 2.0 * half_cotangent[(shell.row + m) * STRIDE + j] : Vec{};
        for (const Factor& factor : factors) {
          const Vec a = (gradient ? 1.0 : 2.0) * factor.potential->scalar[j];
          for (int m = 0; m < size_of(L); ++m) {
            u[m] = factor.contracted[(shell.row + m) * STRIDE + j];
            c[m] += a * u[m];
            u[m] *= 2.0;
          }
          for (int k = 0; k < 3; ++k) v[k] = factor.potential->vector.x[k][j];
          if (gradient) add_gradient_slope<L>(radial + j, d, u, v, total);
        }
        add_value_slope<L>(radial + j, d, c, total);
      }
    });
    for (int k = 0; k < 3; ++k) {
      const double part = sum(total[k]);
      by_nucleus[3 * shell.atom + k] -= part;
      by_nucleus[3 * owner + k] += part;
    }
  }
}

}  // namespace srdft::grid
