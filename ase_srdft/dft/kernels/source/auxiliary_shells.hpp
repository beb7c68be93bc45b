// Contracted auxiliary functions Q, and the integrals [t|Q] of a Hermite Gaussian with all of them.
//
//   [t|Q] = sum_p c_p sum_c S^Q_c R_{t+c}, the contraction of Q taken first.
#pragma once
#include <algorithm>
#include <vector>

#include "coulomb_kets.hpp"

namespace srdft {

// Contracted auxiliary shells, as Python hands them over.
struct AuxiliaryShells {
  int count, nfunctions;
  const int* atoms;
  const int* momenta;
  const int* first_primitive;  // of each, (count + 1)
  const int* first_function;
  const double* exponents;     // of the primitives
  const int* first_number;     // of each primitive's coefficients (ncartesian(l), 2l + 1)
  const double* coefficients;
};

// [t|Q] of one shell Q: (2l + 1, nhermite(L)).
template <int L, int l>
__attribute__((noinline)) void shell_integrals(const BoysTable& table, const Vec& p, const Vec* r,
                                               const AuxiliaryShells& shells, int shell, Vec* G) {
  constexpr int N = L + l, M = 2 * l + 1;
  constexpr bool unroll = nhermite(N) <= UNROLLED;
  alignas(64) Vec R[nhermite(N)];
  for (int i = 0; i < M * nhermite(L); ++i) G[i] = Vec{};
  for (int at = shells.first_primitive[shell]; at < shells.first_primitive[shell + 1]; ++at) {
    const double q = shells.exponents[at];
    const double* S = shells.coefficients + shells.first_number[at];
    hermite_coulomb<N>(table, p * q / (p + q), coulomb_prefactor(p, q), r, R);
    each<nhermite(L), unroll>([&](int t) __attribute__((always_inline)) {
      Vec sums[M];
      for (int m = 0; m < M; ++m) sums[m] = G[m * nhermite(L) + t];
      each<ncartesian(l), unroll>([&](int c) __attribute__((always_inline)) {
        const Vec value = R[sum_of(t, nhermite(l - 1) + c)];
        for (int m = 0; m < M; ++m) sums[m] += S[c * M + m] * value;
      });
      for (int m = 0; m < M; ++m) G[m * nhermite(L) + t] = sums[m];
    });
  }
}

// [t|Q] of all Q, lane after lane: (WIDTH, nhermite(L), nfunctions).
template <int L>
void all_integrals(const BoysTable& table, const Vec& p, const Vec* centre,
                   const AuxiliaryShells& shells, const double* positions, double* result) {
  alignas(64) Vec G[(2 * MAX_KET_L + 1) * nhermite(L)];
  for (int shell = 0; shell < shells.count; ++shell) {
    Vec r[3];
    for (int c = 0; c < 3; ++c) r[c] = centre[c] - positions[3 * shells.atoms[shell] + c];
    with_constant<MAX_KET_L>(shells.momenta[shell], [&](auto l) {
      shell_integrals<L, l>(table, p, r, shells, shell, G);
    });
    for (int m = 0; m <= 2 * shells.momenta[shell]; ++m)
      for (int t = 0; t < nhermite(L); ++t) {
        const Vec value = G[m * nhermite(L) + t];
        for (int lane = 0; lane < WIDTH; ++lane)
          result[(static_cast<std::size_t>(lane) * nhermite(L) + t) * shells.nfunctions +
                 shells.first_function[shell] + m] = value[lane];
      }
  }
}

inline void all_integrals_of(int degree, const BoysTable& table, const Vec& p, const Vec* centre,
                             const AuxiliaryShells& shells, const double* positions,
                             double* result) {
  with_constant<2 * MAX_L + 1>(degree, [&](auto L) {
    all_integrals<L>(table, p, centre, shells, positions, result);
  });
}

// function(P, Cartesian c, factor): the functions of one primitive of a shell as a first side.
template <class Function>
void each_harmonic(const AuxiliaryShells& shells, int shell, int primitive, Function function) {
  const int l = shells.momenta[shell], M = 2 * l + 1;
  const double* S = shells.coefficients + shells.first_number[primitive];
  const double sign = l % 2 ? -1.0 : 1.0;  // of the second side, not of the first
  for (int m = 0; m < M; ++m)
    for (int c = 0; c < ncartesian(l); ++c)
      if (S[c * M + m] != 0.0) function(shells.first_function[shell] + m, c, sign * S[c * M + m]);
}

// Primitives of one angular momentum, WIDTH at once, as the first side of the metric:
// function(shell, primitive, [t|Q]) with the integrals up to degree l + further.
template <class Function>
void each_auxiliary_primitive(int l, int further, const AuxiliaryShells& shells,
                              const double* positions, Function function) {
  struct Bra {
    int shell, primitive;
  };
  std::vector<Bra> bras;
  for (int shell = 0; shell < shells.count; ++shell)
    if (shells.momenta[shell] == l)
      for (int at = shells.first_primitive[shell]; at < shells.first_primitive[shell + 1]; ++at)
        bras.push_back({shell, at});
  const std::size_t stride = static_cast<std::size_t>(nhermite(l + further)) * shells.nfunctions;
  std::vector<double> integrals(bras.empty() ? 0 : WIDTH * stride);
  for (std::size_t first = 0; first < bras.size(); first += WIDTH) {
    const int count = static_cast<int>(std::min<std::size_t>(WIDTH, bras.size() - first));
    Vec p, centre[3];
    for (int lane = 0; lane < WIDTH; ++lane) {
      const Bra& bra = bras[first + std::min(lane, count - 1)];
      p[lane] = shells.exponents[bra.primitive];
      for (int c = 0; c < 3; ++c) centre[c][lane] = positions[3 * shells.atoms[bra.shell] + c];
    }
    all_integrals_of(l + further, BoysTable::get(), p, centre, shells, positions, integrals.data());
    for (int lane = 0; lane < count; ++lane)
      function(bras[first + lane].shell, bras[first + lane].primitive,
               integrals.data() + lane * stride);
  }
}

}  // namespace srdft
