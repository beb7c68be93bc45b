// Real solid harmonics Y_lm(d), homogeneous polynomials of degree l, in PySCF's order.
//
// m = -l ... l, but for p, which is x, y, z.  The constants of s and p are in the contraction
// coefficients.  d is a vector of Vec, or of Dual for the derivative along one direction.
#pragma once
#include "dual.hpp"

namespace srdft::grid {

constexpr int MAX_ANGULAR = 3;
constexpr int size_of(int angular) { return 2 * angular + 1; }

constexpr double D_XY = 1.092548430592079070, D_Z2 = 0.315391565252520002,
                 D_X2 = 0.546274215296039535;
constexpr double F_3 = 0.590043589926643510, F_XYZ = 2.890611442640554055,
                 F_1 = 0.457045799464465737, F_0 = 0.373176332590115391,
                 F_2 = 1.445305721320277028;

// Y_m of l >= 1
template <int L, class T>
inline void harmonics(const T (&d)[3], T (&y)[size_of(L)]) {
  const T &X = d[0], &Y = d[1], &Z = d[2];
  if constexpr (L == 1) {
    y[0] = X, y[1] = Y, y[2] = Z;
  } else if constexpr (L == 2) {
    y[0] = D_XY * (X * Y);
    y[1] = D_XY * (Y * Z);
    y[2] = D_Z2 * (2.0 * Z * Z - X * X - Y * Y);
    y[3] = D_XY * (X * Z);
    y[4] = D_X2 * (X * X - Y * Y);
  } else {
    const T xx = X * X, yy = Y * Y, zz = Z * Z;
    y[0] = F_3 * Y * (3.0 * xx - yy);
    y[1] = F_XYZ * (X * Y) * Z;
    y[2] = F_1 * Y * (4.0 * zz - xx - yy);
    y[3] = F_0 * Z * (2.0 * zz - 3.0 * (xx + yy));
    y[4] = F_1 * X * (4.0 * zz - xx - yy);
    y[5] = F_2 * Z * (xx - yy);
    y[6] = F_3 * X * (xx - 3.0 * yy);
  }
}

// sum_m c_m grad Y_m of l >= 1; d times it is l sum_m c_m Y_m
template <int L, class T>
inline void slope(const Vec (&c)[size_of(L)], const T (&d)[3], T (&g)[3]) {
  const T &X = d[0], &Y = d[1], &Z = d[2];
  if constexpr (L == 1) {
    for (int i = 0; i < 3; ++i) g[i] = constant<T>(c[i]);
  } else if constexpr (L == 2) {
    const Vec xy = D_XY * c[0], yz = D_XY * c[1], z2 = 2.0 * D_Z2 * c[2], xz = D_XY * c[3],
              x2 = 2.0 * D_X2 * c[4];
    g[0] = (x2 - z2) * X + xy * Y + xz * Z;
    g[1] = xy * X - (x2 + z2) * Y + yz * Z;
    g[2] = xz * X + yz * Y + 2.0 * z2 * Z;
  } else {
    const Vec xyz = F_XYZ * c[1], f0 = 3.0 * F_0 * c[3], f2 = F_2 * c[5];
    const Vec f_3 = 3.0 * F_3 * c[0], f3 = 3.0 * F_3 * c[6], f_1 = F_1 * c[2], f1 = F_1 * c[4];
    const T xx = X * X, yy = Y * Y, zz = Z * Z, xy = X * Y, xz = X * Z, yz = Y * Z;
    g[0] = f3 * (xx - yy) + 2.0 * (f_3 - f_1) * xy + xyz * yz + 2.0 * (f2 - f0) * xz +
           f1 * (4.0 * zz - 3.0 * xx - yy);
    g[1] = f_3 * (xx - yy) - 2.0 * (f3 + f1) * xy + xyz * xz - 2.0 * (f2 + f0) * yz +
           f_1 * (4.0 * zz - xx - 3.0 * yy);
    g[2] = xyz * xy + 8.0 * (f_1 * yz + f1 * xz) + f0 * (2.0 * zz - xx - yy) + f2 * (xx - yy);
  }
}

}  // namespace srdft::grid
