// Dual numbers a + b eps, eps^2 = 0, a vector of them at a time: f(a + b eps) = f(a) + f'(a) b eps.
//
// A formula written for any number type gives, with duals, also its derivative along one direction.
#pragma once
#include "simd.hpp"

namespace srdft {

struct Dual {
  Vec value, slope;
};

inline Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.slope + b.slope}; }
inline Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.slope - b.slope}; }
inline Dual operator-(Dual a) { return {-a.value, -a.slope}; }
inline Dual operator*(Dual a, Dual b) {
  return {a.value * b.value, a.slope * b.value + a.value * b.slope};
}
inline Dual operator/(Dual a, Dual b) {
  const Vec inverse = 1.0 / b.value, quotient = a.value * inverse;
  return {quotient, (a.slope - quotient * b.slope) * inverse};
}
inline Dual operator+(double a, Dual b) { return {a + b.value, b.slope}; }
inline Dual operator+(Dual a, double b) { return {a.value + b, a.slope}; }
inline Dual operator-(double a, Dual b) { return {a - b.value, -b.slope}; }
inline Dual operator-(Dual a, double b) { return {a.value - b, a.slope}; }
inline Dual operator*(double a, Dual b) { return {a * b.value, a * b.slope}; }
inline Dual operator*(Vec a, Dual b) { return {a * b.value, a * b.slope}; }
inline Dual operator/(double a, Dual b) {
  const Vec inverse = 1.0 / b.value, quotient = a * inverse;
  return {quotient, -quotient * inverse * b.slope};
}

inline Dual sqrt(Dual a) {
  const Vec root = sqrt(a.value);
  return {root, 0.5 * a.slope / root};
}
inline Dual exp(Dual a) {
  const Vec power = exp(a.value);
  return {power, power * a.slope};
}
inline Dual expm1(Dual a) {
  const Vec power = expm1(a.value);
  return {power, (power + 1.0) * a.slope};
}
inline Dual log(Dual a) { return {log(a.value), a.slope / a.value}; }
inline Dual log1p(Dual a) { return {log1p(a.value), a.slope / (1.0 + a.value)}; }
inline Dual atan(Dual a) { return {atan(a.value), a.slope / (1.0 + a.value * a.value)}; }

template <class T>
inline T constant(Vec a);
template <>
inline Vec constant<Vec>(Vec a) {
  return a;
}
template <>
inline Dual constant<Dual>(Vec a) {
  return {a, broadcast(0.0)};
}

inline Vec at_least(Vec a, double least) { return max(a, broadcast(least)); }
inline Dual at_least(Dual a, double least) {
  const auto below = a.value < least;
  return {below ? broadcast(least) : a.value, below ? broadcast(0.0) : a.slope};
}

}  // namespace srdft
