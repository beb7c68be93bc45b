// Vectors of doubles, and elementary functions of them to 1 or 2 units in the last place.
//
// The width is the target's: 8 with AVX-512, 4 with AVX2, 2 elsewhere (SSE2, NEON).  Comparisons
// give vectors of all ones or zeros, and `mask ? a : b` chooses, both by the compiler's extension.
#pragma once
#include <cmath>
#include <cstdint>

namespace srdft {

#if defined(__AVX512F__)
constexpr int WIDTH = 8;
#elif defined(__AVX__)
constexpr int WIDTH = 4;
#else
constexpr int WIDTH = 2;
#endif

typedef double Vec __attribute__((vector_size(8 * WIDTH)));
typedef std::int64_t Ints __attribute__((vector_size(8 * WIDTH)));
typedef std::uint64_t UInts __attribute__((vector_size(8 * WIDTH)));
typedef double UnalignedVec __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));

inline Vec load(const double* p) { return *reinterpret_cast<const UnalignedVec*>(p); }
inline void store(double* p, Vec v) { *reinterpret_cast<UnalignedVec*>(p) = v; }
inline Vec broadcast(double x) { return x - Vec{}; }
inline Vec max(Vec a, Vec b) { return a > b ? a : b; }
inline Vec min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec abs(Vec a) { return a < 0.0 ? -a : a; }

inline double sum(Vec v) {
#if defined(__AVX512F__)
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
#elif defined(__AVX__)
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
#endif
  return v[0] + v[1];
}

inline Vec sqrt(Vec v) {
  Vec root;
  for (int i = 0; i < WIDTH; ++i) root[i] = std::sqrt(v[i]);
  return root;
}

// Adding it rounds to a whole number and leaves that in the lowest bits.
constexpr double ROUNDING = 6755399441055744.0;  // 3 * 2^51
// ln 2 in two parts, the first with so few bits that whole multiples of it are exact.
constexpr double LN2_HIGH = 6.93147180369123816490e-01, LN2_LOW = 1.90821492927058770002e-10;

// exp(x) = 2^n exp(r), |r| <= ln(2)/2: scale = 2^n and expm1 = exp(r) - 1 by its Taylor series.
struct Exponential {
  Vec expm1, scale;
};

inline Exponential reduced_exponential(Vec x) {
  x = min(max(x, broadcast(-708.0)), broadcast(709.0));
  const Vec shifted = x * 1.4426950408889634074 + ROUNDING;
  const Vec n = shifted - ROUNDING;
  const Vec r = (x - n * LN2_HIGH) - n * LN2_LOW;
  constexpr double inverse_factorials[] = {
      1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
      1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5};
  Vec series = broadcast(1.0 / 6227020800.0);
  for (double coefficient : inverse_factorials) series = series * r + coefficient;
  return {series * r * r + r, (Vec)(((Ints)shifted + 1023) << 52)};
}

// At most exp(-708) below -708, and exp(709) above 709.
inline Vec exp(Vec x) {
  const Exponential e = reduced_exponential(x);
  return e.scale + e.scale * e.expm1;
}

inline Vec expm1(Vec x) {
  const Exponential e = reduced_exponential(x);
  return e.scale * e.expm1 + (e.scale - 1.0);
}

// Of normal positive numbers: x = 2^k m with sqrt(1/2) <= m < sqrt(2), and log(m) as the series of
// 2 artanh((m - 1) / (m + 1)).
inline Vec log(Vec x) {
  constexpr std::int64_t root_half = 0x3fe6a09e667f3bcdLL;
  const Ints bits = (Ints)x - root_half;
  const Ints k = (Ints)(((UInts)bits + (1023ull << 52)) >> 52) - 1023;
  const Vec m = (Vec)((Ints)x - (k << 52));
  const Vec n = (Vec)(k + (Ints)broadcast(ROUNDING)) - ROUNDING;
  const Vec s = (m - 1.0) / (m + 1.0), z = s * s;
  Vec series = broadcast(2.0 / 21.0);
  for (int i = 19; i > 1; i -= 2) series = series * z + 2.0 / i;
  return n * LN2_HIGH + (2.0 * s + (s * z * series + n * LN2_LOW));
}

inline Vec log1p(Vec x) {
  const Vec u = x + 1.0;
  return log(u) + (x - (u - 1.0)) / u;  // the second term is what the addition has lost
}

// Of x >= 0 or not too large: three halvings of the angle, then the series.
inline Vec atan(Vec x) {
  for (int i = 0; i < 3; ++i) x = x / (1.0 + sqrt(1.0 + x * x));
  const Vec z = -x * x;
  Vec series = broadcast(1.0 / 27.0);
  for (int i = 25; i > 0; i -= 2) series = series * z + 1.0 / i;
  return 8.0 * x * series;
}

}  // namespace srdft
