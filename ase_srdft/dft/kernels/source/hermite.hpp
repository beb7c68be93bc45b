// Hermite Gaussians: their order, and the Coulomb integrals between two of them.
//
// R_tuv(alpha, r) = (d/dx)^t (d/dy)^u (d/dz)^v F_0(alpha r^2) times a prefactor, by the recursion
// R^n_{t+1,u,v} = t R^{n+1}_{t-1,u,v} + x R^{n+1}_{tuv} with R^n_000 = (-2 alpha)^n F_n(alpha r^2).
// L. E. McMurchie and E. R. Davidson, J. Comput. Phys. 26, 218 (1978), equations 4.5 to 4.8.
#pragma once
#include <type_traits>

#include "boys.hpp"

#define SRDFT_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define SRDFT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SRDFT_UNROLL _Pragma("GCC unroll 512")
#endif

namespace srdft {

constexpr int MAX_DEGREE = 12;  // of a Hermite Gaussian: 6 of two orbitals, 5 of a third, and one

// Triples (t, u, v) with t + u + v = n, and with t + u + v <= n.
constexpr int ncartesian(int n) { return (n + 1) * (n + 2) / 2; }
constexpr int nhermite(int n) { return (n + 1) * (n + 2) * (n + 3) / 6; }

// The place of a triple: by degree, then by falling t, then by falling u (PySCF's Cartesians).
constexpr int place(int t, int u, int v) {
  const int n = t + u + v, rest = u + v;
  return n * (n + 1) * (n + 2) / 6 + rest * (rest + 1) / 2 + v;
}

// For each place: its triple, and how the recursion makes it (along which axis, from which two
// places, with which factor of the second).
struct HermiteTable {
  short power[3][nhermite(MAX_DEGREE)];
  short axis[nhermite(MAX_DEGREE)], one_less[nhermite(MAX_DEGREE)], two_less[nhermite(MAX_DEGREE)];
  short factor[nhermite(MAX_DEGREE)];
};

constexpr HermiteTable make_hermite_table() {
  HermiteTable table{};
  for (int n = 0; n <= MAX_DEGREE; ++n)
    for (int t = n; t >= 0; --t)
      for (int u = n - t; u >= 0; --u) {
        const int triple[3] = {t, u, n - t - u}, here = place(t, u, n - t - u);
        for (int c = 0; c < 3; ++c) table.power[c][here] = static_cast<short>(triple[c]);
        if (n == 0) continue;
        const int axis = t > 0 ? 0 : u > 0 ? 1 : 2;
        int less[3] = {triple[0], triple[1], triple[2]};
        less[axis] -= 1;
        table.axis[here] = static_cast<short>(axis);
        table.one_less[here] = static_cast<short>(place(less[0], less[1], less[2]));
        table.factor[here] = static_cast<short>(less[axis]);
        if (less[axis] > 0) {
          less[axis] -= 1;
          table.two_less[here] = static_cast<short>(place(less[0], less[1], less[2]));
        }
      }
  return table;
}

static constexpr HermiteTable HERMITE = make_hermite_table();

// The place of the sum of two triples.
constexpr int sum_of(int a, int b) {
  return place(HERMITE.power[0][a] + HERMITE.power[0][b], HERMITE.power[1][a] + HERMITE.power[1][b],
               HERMITE.power[2][a] + HERMITE.power[2][b]);
}

// Loops with known places are unrolled up to this many, others run over the tables.
constexpr int UNROLLED = 84;

template <int COUNT, bool UNROLL, class Function>
SRDFT_INLINE void each(Function function) {
  if constexpr (UNROLL) {
    SRDFT_UNROLL
    for (int i = 0; i < COUNT; ++i) function(i);
  } else {
    for (int i = 0; i < COUNT; ++i) function(i);
  }
}

// function(n) with n known to the compiler, 0 <= n <= HIGHEST.
template <int HIGHEST, class Function>
SRDFT_INLINE void with_constant(int n, Function function) {
  if constexpr (HIGHEST > 0)
    if (n < HIGHEST) return with_constant<HIGHEST - 1>(n, function);
  function(std::integral_constant<int, HIGHEST>{});
}

// All R_tuv up to degree N, times a prefactor.
template <int N>
SRDFT_INLINE void hermite_coulomb(const BoysTable& table, Vec alpha, Vec prefactor, const Vec* r,
                                  Vec* R) {
  constexpr bool unroll = nhermite(N) <= UNROLLED;
  Vec f[N + 1];
  boys<N>(table, alpha * (r[0] * r[0] + r[1] * r[1] + r[2] * r[2]), f);
  const Vec step = -2.0 * alpha;
  for (int n = 0; n <= N; ++n) {
    f[n] *= prefactor;
    prefactor *= step;
  }
  R[0] = f[N];
  each<N, (N < 8)>([&](int pass) __attribute__((always_inline)) {
    const int n = N - 1 - pass, last = nhermite(pass + 1) - 1;
    // from the highest down, so that what is read is still of the order above
    if constexpr (unroll) {
      SRDFT_UNROLL
      for (int i = last; i > 0; --i) {
        Vec value = r[HERMITE.axis[i]] * R[HERMITE.one_less[i]];
        if (HERMITE.factor[i]) value += static_cast<double>(HERMITE.factor[i]) * R[HERMITE.two_less[i]];
        R[i] = value;
      }
    } else {
      for (int i = last; i > 0; --i)
        R[i] = r[HERMITE.axis[i]] * R[HERMITE.one_less[i]] +
               static_cast<double>(HERMITE.factor[i]) * R[HERMITE.two_less[i]];
    }
    R[0] = f[n];
  });
}

}  // namespace srdft
