// Products of two primitive Gaussians as sums of Hermite Gaussians.
//
// x_A^i exp(-a x_A^2) x_B^j exp(-b x_B^2) = sum_t E^ij_t Lambda_t(x_P), one axis after the other:
// E^00_0 = exp(-mu X^2), E^{i+1,j}_t = E^ij_{t-1} / 2p + X_PA E^ij_t + (t + 1) E^ij_{t+1}, likewise
// for j with X_PB; p = a + b, mu = ab/p, X = X_A - X_B.  Helgaker, Jorgensen and Olsen, section
// 9.5.1.  With them, their derivatives by X at fixed P.
#pragma once
#include <cmath>
#include <vector>

#include "hermite.hpp"

namespace srdft {

constexpr int MAX_L = 3;           // of an orbital
constexpr double NEGLIGIBLE = 40;  // exp(-40) = 4e-18: beyond it a pair has no overlap

// The primitives of a molecule's orbitals, as Python hands them over: each exponent of an atom
// once, with every angular momentum that has it.
struct Primitives {
  int count, natoms;
  const int* atoms;            // of each exponent, ascending
  const double* exponents;     // Bohr^-2
  const int* momenta;          // a bit for every l
  const int* first_cartesian;  // of the Cartesian functions that have it, by l, then as `place`
  int ncartesians;
};

inline int highest(int momenta) { return momenta >= 8 ? 3 : momenta >= 4 ? 2 : momenta >= 2 ? 1 : 0; }

// E^ij_t of one axis and its derivative by X.
struct Expansion {
  double value[MAX_L + 1][MAX_L + 1][2 * MAX_L + 1], slope[MAX_L + 1][MAX_L + 1][2 * MAX_L + 1];

  void fill(double a, double b, double x, int li, int lj) {
    const double p = a + b, mu = a * b / p, half = 0.5 / p;
    value[0][0][0] = std::exp(-mu * x * x);
    slope[0][0][0] = -2.0 * mu * x * value[0][0][0];
    for (int j = 0; j <= lj; ++j) {
      if (j > 0) raise(value[0][j - 1], slope[0][j - 1], j - 1, half, a / p, x, value[0][j], slope[0][j]);
      for (int i = 1; i <= li; ++i)
        raise(value[i - 1][j], slope[i - 1][j], i + j - 1, half, -b / p, x, value[i][j], slope[i][j]);
    }
  }

 private:
  // From order n to n + 1; the distance from P is share * x.
  static void raise(const double* e, const double* de, int n, double half, double share, double x,
                    double* result, double* derivative) {
    for (int t = 0; t <= n + 1; ++t) {
      const double below = t > 0 ? half * e[t - 1] : 0.0, dbelow = t > 0 ? half * de[t - 1] : 0.0;
      const double same = t <= n ? e[t] : 0.0, dsame = t <= n ? de[t] : 0.0;
      const double above = t < n ? (t + 1) * e[t + 1] : 0.0, dabove = t < n ? (t + 1) * de[t + 1] : 0.0;
      result[t] = below + share * x * same + above;
      derivative[t] = dbelow + share * (same + x * dsame) + dabove;
    }
  }
};

// Two exponents, i and j, of two atoms.
struct PrimitivePair {
  int i, j;
};

// A pair worked out at the nuclei.
struct PairGeometry {
  double p, centre[3], share;  // a + b, P, a / p
  Expansion axes[3];

  void fill(const Primitives& primitives, const double* positions, PrimitivePair pair) {
    const double a = primitives.exponents[pair.i], b = primitives.exponents[pair.j];
    const double* A = positions + 3 * primitives.atoms[pair.i];
    const double* B = positions + 3 * primitives.atoms[pair.j];
    p = a + b;
    share = a / p;
    for (int c = 0; c < 3; ++c) {
      centre[c] = (a * A[c] + b * B[c]) / p;
      axes[c].fill(a, b, A[c] - B[c], highest(primitives.momenta[pair.i]),
                   highest(primitives.momenta[pair.j]));
    }
  }
};

inline bool overlap(const Primitives& primitives, const double* positions, int i, int j) {
  const double a = primitives.exponents[i], b = primitives.exponents[j];
  double square = 0.0;
  for (int c = 0; c < 3; ++c) {
    const double d = positions[3 * primitives.atoms[i] + c] - positions[3 * primitives.atoms[j] + c];
    square += d * d;
  }
  return a * b / (a + b) * square <= NEGLIGIBLE;
}

}  // namespace srdft
