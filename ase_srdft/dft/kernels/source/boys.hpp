// The Boys function F_n(x) = int_0^1 t^(2n) exp(-x t^2) dt.
//
// F_N by a Taylor series around a tabulated argument below LARGE and, above it, from
// F_0 = sqrt(pi / x) / 2 upwards, which is stable there; the lower orders by downward recursion.
// Helgaker, Jorgensen and Olsen, Molecular Electronic-Structure Theory, section 9.8.
#pragma once
#include <array>
#include <cmath>

#include "simd.hpp"

namespace srdft {

constexpr int MAX_BOYS = 14;  // f functions, h functions and a derivative: 6 + 5 + 1, and some

class BoysTable {
 public:
  static constexpr double STEP = 0.1, LARGE = 36.0;
  static constexpr int TERMS = 8, COLUMNS = MAX_BOYS + TERMS, ROWS = 362;

  static const BoysTable& get() {
    static const BoysTable table;
    return table;
  }
  const double* row(int index) const { return values_[index].data(); }

 private:
  std::array<std::array<double, COLUMNS>, ROWS> values_;

  BoysTable() {
    for (int i = 0; i < ROWS; ++i) {
      const double x = i * STEP, decay = std::exp(-x);
      int n = COLUMNS - 1;
      double term = 1.0 / (2 * n + 1), total = term;
      for (int k = 1; term > 1e-18 * total; ++k) total += term *= 2.0 * x / (2 * n + 2 * k + 1);
      values_[i][n] = decay * total;
      for (; n > 0; --n) values_[i][n - 1] = (2.0 * x * values_[i][n] + decay) / (2 * n - 1);
    }
  }
};

// F_0 ... F_N at x >= 0.
template <int N>
inline void boys(const BoysTable& table, Vec x, Vec* values) {
  const Vec decay = exp(-x);
  Vec top;
  for (int lane = 0; lane < WIDTH; ++lane) {
    const double near = x[lane] < BoysTable::LARGE ? x[lane] : BoysTable::LARGE;
    const int index = static_cast<int>(near * (1.0 / BoysTable::STEP) + 0.5);
    const double d = index * BoysTable::STEP - near;
    const double* f = table.row(index) + N;
    double series = f[7] * (1.0 / 5040);
    series = series * d + f[6] * (1.0 / 720);
    series = series * d + f[5] * (1.0 / 120);
    series = series * d + f[4] * (1.0 / 24);
    series = series * d + f[3] * (1.0 / 6);
    series = series * d + f[2] * 0.5;
    series = series * d + f[1];
    top[lane] = series * d + f[0];
  }
  bool far = false;
  for (int lane = 0; lane < WIDTH; ++lane) far |= x[lane] >= BoysTable::LARGE;
  if (far) {
    const Vec inverse = 0.5 / max(x, broadcast(1.0));
    Vec upwards = 1.2533141373155002512 * sqrt(inverse);  // sqrt(pi / 2)
    for (int n = 0; n < N; ++n) upwards = ((2 * n + 1) * upwards - decay) * inverse;
    top = x < BoysTable::LARGE ? top : upwards;
  }
  values[N] = top;
  for (int n = N; n > 0; --n) {
    top = (2.0 * x * top + decay) * (1.0 / (2 * n - 1));
    values[n - 1] = top;
  }
}

}  // namespace srdft
