// The second side of a Coulomb integral: solid harmonic Gaussians, which are pure Hermite Gaussians.
//
// S_lm(r) exp(-q r^2) = S_lm(d/dR) exp(-q r^2) / (2q)^l: what Python hands over are the Cartesian
// coefficients of S_lm with that factor and the sign (-1)^l of the second side.
#pragma once
#include <vector>

#include "gaussian_pairs.hpp"

namespace srdft {

constexpr int MAX_KET_L = 5;

// 2 pi^(5/2) / (p q sqrt(p + q)): of a Coulomb integral between two Hermite Gaussians.
SRDFT_INLINE Vec coulomb_prefactor(Vec p, double q) {
  const Vec total = p + q;
  return 34.986836655249725693 / (p * q * sqrt(total));
}

// Primitives with K densities each, as Python hands them over, atom after atom.
struct KetDensities {
  int natoms;
  const int* first;         // of each atom, (natoms + 1)
  const int* momenta;       // l
  const double* exponents;  // q
  const int* first_number;  // of the densities (K, ncartesian(l))
  const double* densities;
};

// Adds sum_c h^k_c R_{t+c} of one ket to V^k_t, for t up to degree L.
template <int L, int l, int K>
__attribute__((noinline)) void add_ket(const BoysTable& table, const Vec& p, const Vec* r, double q,
                                       const double* h, Vec* V) {
  constexpr int N = L + l;
  constexpr bool unroll = nhermite(N) <= UNROLLED;
  alignas(64) Vec R[nhermite(N)];
  hermite_coulomb<N>(table, p * q / (p + q), coulomb_prefactor(p, q), r, R);
  each<nhermite(L), unroll>([&](int t) __attribute__((always_inline)) {
    Vec sums[K];
    for (int k = 0; k < K; ++k) sums[k] = V[k * nhermite(L) + t];
    each<ncartesian(l), unroll>([&](int c) __attribute__((always_inline)) {
      const Vec value = R[sum_of(t, nhermite(l - 1) + c)];
      for (int k = 0; k < K; ++k) sums[k] += h[k * ncartesian(l) + c] * value;
    });
    for (int k = 0; k < K; ++k) V[k * nhermite(L) + t] = sums[k];
  });
}

// V^k_t at P of all kets of an atom, from zero; r = P - C.
template <int L, int K>
void potential_of_atom(const BoysTable& table, const KetDensities& kets, int atom, const Vec& p,
                       const Vec* r, Vec* V) {
  for (int i = 0; i < K * nhermite(L); ++i) V[i] = Vec{};
  for (int ket = kets.first[atom]; ket < kets.first[atom + 1]; ++ket) {
    const double q = kets.exponents[ket];
    const double* h = kets.densities + kets.first_number[ket];
    with_constant<MAX_KET_L>(kets.momenta[ket], [&](auto l) {
      add_ket<L, l, K>(table, p, r, q, h, V);
    });
  }
}

}  // namespace srdft
