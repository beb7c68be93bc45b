// The semilocal terms of the functionals of closed shells: e, de/drho and de/dsigma at a point.
//
// The formulas, their sources and their constants are those of dft/xc/functionals.py, which is
// tested against libxc.  T is Vec, or Dual for the second derivatives along one direction.
#pragma once
#include "dual.hpp"

namespace srdft::grid {

// Below this density (Bohr^-3) a point contributes nothing.
constexpr double DENSITY_THRESHOLD = 1.0e-13;

constexpr double PI = 3.14159265358979323846;
constexpr double SLATER = 0.98474502184269641;        // (3/pi)^(1/3)
constexpr double WIGNER_SEITZ = 0.62035049089940001;  // (3/(4 pi))^(1/3)
constexpr double FERMI = 3.0936677262801359;          // (3 pi^2)^(1/3)
constexpr double CUBE_ROOT_2 = 1.2599210498948732;

template <class T>
struct Variables {
  T rho, cube_root, sigma;

  static Variables of(T rho, T sigma) { return {rho, exp((1.0 / 3.0) * log(rho)), sigma}; }
};

template <class T>
struct Derivatives {
  T energy, by_rho, by_sigma;
};

template <class T>
inline Derivatives<T> slater(const Variables<T>& at) {
  const T by_rho = -SLATER * at.cube_root;
  return {0.75 * by_rho * at.rho, by_rho, 0.0 * at.rho};
}

template <class T>
inline Derivatives<T> vosko_wilk_nusair(const Variables<T>& at, double x0, double b, double c) {
  const double amplitude = 0.0310907;
  const double q = std::sqrt(4.0 * c - b * b), weight = b * x0 / (x0 * x0 + b * x0 + c);
  const T x = sqrt(WIGNER_SEITZ / at.cube_root);
  const T big_x = x * x + b * x + c, twice = 2.0 * x + b, shifted = x - x0;
  const T arctan = (2.0 / q) * atan(q / twice);
  const T arctan_slope = -4.0 / (twice * twice + q * q), log_slope = twice / big_x;
  const T energy = log(x * x / big_x) + b * arctan -
                   weight * (log(shifted * shifted / big_x) + (b + 2.0 * x0) * arctan);
  const T slope = 2.0 / x - log_slope + b * arctan_slope -
                  weight * (2.0 / shifted - log_slope + (b + 2.0 * x0) * arctan_slope);
  // rho dx/drho = -x/6
  return {amplitude * at.rho * energy, amplitude * (energy - (1.0 / 6.0) * x * slope),
          0.0 * at.rho};
}

template <class T>
inline Derivatives<T> vwn5(const Variables<T>& at) {
  return vosko_wilk_nusair(at, -0.10498, 3.72744, 12.9352);
}

template <class T>
inline Derivatives<T> vwn_rpa(const Variables<T>& at) {
  return vosko_wilk_nusair(at, -0.409286, 13.0720, 42.7198);
}

constexpr double PBE_BETA = 0.06672455060314922;
constexpr double PBE_GAMMA = (1.0 - 0.69314718055994530942) / (PI * PI);
constexpr double PBE_KAPPA = 0.804;
constexpr double PBE_MU = PBE_BETA * PI * PI / 3.0;

template <class T>
inline Derivatives<T> pbe_exchange(const Variables<T>& at) {
  // s^2 = sigma q, q = 1 / (4 (3 pi^2)^(2/3) rho^(8/3)); F = 1 + kappa - kappa / D
  const T root = at.rho * at.cube_root;
  const T q = (0.25 / (FERMI * FERMI)) / (root * root), s2 = at.sigma * q;
  const T inverse = 1.0 / (1.0 + (PBE_MU / PBE_KAPPA) * s2);
  const T enhancement = (1.0 + PBE_KAPPA) - PBE_KAPPA * inverse;
  const T slope = PBE_MU * inverse * inverse;  // dF/ds^2
  const T uniform = (-0.75 * SLATER) * root;
  // rho ds^2/drho = -8/3 s^2
  const T by_rho = -SLATER * at.cube_root * (enhancement - 2.0 * s2 * slope);
  return {uniform * enhancement, by_rho, uniform * slope * q};
}

// Perdew and Wang's epsilon per electron, and rho depsilon/drho
template <class T>
struct UniformCorrelation {
  T energy, slope;
};

template <class T>
inline UniformCorrelation<T> perdew_wang(const Variables<T>& at) {
  constexpr double a = 0.0310907, alpha = 0.21370;
  constexpr double b1 = 2.0 * a * 7.5957, b2 = 2.0 * a * 3.5876, b3 = 2.0 * a * 1.6382,
                   b4 = 2.0 * a * 0.49294;
  const T rs = WIGNER_SEITZ / at.cube_root, x = sqrt(rs);
  const T series = x * (b1 + x * (b2 + x * (b3 + b4 * x)));
  const T slope = x * (b1 + x * (2.0 * b2 + x * (3.0 * b3 + 4.0 * b4 * x)));  // x d(series)/dx
  const T logarithm = log1p(1.0 / series);
  const T prefactor = -2.0 * a * (1.0 + alpha * rs);
  // rho d/drho is -1/3 r_s d/dr_s, and -1/6 x d/dx
  const T by_rho = (2.0 * a * alpha / 3.0) * rs * logarithm +
                   (1.0 / 6.0) * prefactor * slope / (series * (series + 1.0));
  return {prefactor * logarithm, by_rho};
}

template <class T>
inline Derivatives<T> pbe_correlation(const Variables<T>& at) {
  // e = rho (epsilon + H), H = gamma ln(1 + g), g = beta/gamma t^2 (1 + y) / (1 + y + y^2),
  // y = A t^2, A = beta/gamma / w, w = exp(-epsilon/gamma) - 1
  const UniformCorrelation<T> local = perdew_wang(at);
  constexpr double ratio = PBE_BETA / PBE_GAMMA;
  const T q = (ratio * PI / (16.0 * FERMI)) / (at.cube_root * at.rho * at.rho);
  const T t2 = q * at.sigma;  // beta/gamma t^2
  const T w = expm1((-1.0 / PBE_GAMMA) * local.energy);
  const T y = t2 / w, inverse = 1.0 / (1.0 + y + y * y);
  const T g = t2 * (1.0 + y) * inverse;
  const T common = PBE_GAMMA * inverse * inverse / (1.0 + g);
  const T by_t2 = common * (1.0 + 2.0 * y);  // dH/d(beta/gamma t^2) at fixed A
  // dH/depsilon through y: dg/dy = -beta/gamma t^2 y (2 + y) / (1 + y + y^2)^2 and
  // dy/depsilon = y (1 + w) / (gamma w)
  const T by_local = (-1.0 / PBE_GAMMA) * common * t2 * y * y * (2.0 + y) * (1.0 + w) / w;
  const T energy = local.energy + PBE_GAMMA * log1p(g);
  // rho dt^2/drho = -7/3 t^2
  const T by_rho = energy + local.slope * (1.0 + by_local) - (7.0 / 3.0) * t2 * by_t2;
  return {at.rho * energy, by_rho, at.rho * by_t2 * q};
}

template <class T>
inline Derivatives<T> b88(const Variables<T>& at) {
  constexpr double beta = 0.0042;
  const T power = (0.5 / CUBE_ROOT_2) * at.rho * at.cube_root;  // (rho/2)^(4/3)
  const T x = 0.5 * sqrt(at_least(at.sigma, 1.0e-40)) / power;
  const T hypotenuse = sqrt(1.0 + x * x);
  const T arsinh = log1p(x + x * x / (1.0 + hypotenuse));
  const T inverse = 1.0 / (1.0 + 6.0 * beta * x * arsinh);
  const T gradient = beta * x * x * inverse;
  const T slope =  // dg/dx / x
      beta * inverse * (2.0 - 6.0 * beta * x * inverse * (arsinh + x / hypotenuse));
  const Derivatives<T> uniform = slater(at);
  // rho dx/drho = -4/3 x and dx/dsigma = x / (2 sigma)
  const T by_rho = uniform.by_rho - (8.0 / 3.0) * power / at.rho * (gradient - x * x * slope);
  return {uniform.energy - 2.0 * power * gradient, by_rho, -0.25 * slope / power};
}

template <class T>
inline Derivatives<T> lyp(const Variables<T>& at) {
  // For a closed shell, Miehlich's form is
  // e = -a D rho - a b E D (C_F rho - sigma rho^(-5/3) (3 + 7 delta) / 72), E = exp(-c rho^(-1/3))
  constexpr double a = 0.04918, b = 0.132, c = 0.2533, d = 0.349;
  constexpr double fermi = 0.3 * FERMI * FERMI;
  const T inverse_root = 1.0 / at.cube_root;
  const T damping = 1.0 / (1.0 + d * inverse_root);
  const T m = d * inverse_root * damping;  // rho dD/drho = D m / 3
  const T delta = c * inverse_root + m;    // rho d(E D)/drho = E D delta / 3
  const T delta_slope = (-1.0 / 3.0) * (c * inverse_root + m * damping);  // rho ddelta/drho
  const T decay = (a * b) * exp(-c * inverse_root) * damping;
  const T power = inverse_root * inverse_root / (72.0 * at.rho);  // rho^(-5/3) / 72
  const T by_sigma = decay * power * (3.0 + 7.0 * delta);
  const T energy = -a * damping * at.rho - decay * (fermi * at.rho) + by_sigma * at.sigma;
  const T by_rho = -a * damping * (1.0 + (1.0 / 3.0) * m) -
                   fermi * decay * (1.0 + (1.0 / 3.0) * delta);
  const T gradient_slope =
      (1.0 / 3.0) * (delta - 5.0) * by_sigma + 7.0 * decay * power * delta_slope;
  return {energy, by_rho + gradient_slope * at.sigma / at.rho, by_sigma};
}

// A functional as Python hands it over: a sum of terms, by their numbers in add_terms.
struct Functional {
  int nterms;
  int needs_gradient;
  const int* terms;
  const double* weights;
};

template <class T, Derivatives<T> (*FORMULA)(const Variables<T>&)>
inline void add_term(const Variables<T>* at, int count, double weight, Derivatives<T>* total) {
  for (int j = 0; j < count; ++j) {
    const Derivatives<T> part = FORMULA(at[j]);
    total[j].energy = total[j].energy + weight * part.energy;
    total[j].by_rho = total[j].by_rho + weight * part.by_rho;
    total[j].by_sigma = total[j].by_sigma + weight * part.by_sigma;
  }
}

// e and its derivatives at so many vectors of points; the order of the terms is Python's too
// (dft/kernels/quadrature.py).
template <class T>
inline void add_terms(const Functional& functional, const Variables<T>* at, int count,
                      Derivatives<T>* total) {
  for (int i = 0; i < functional.nterms; ++i) {
    const double weight = functional.weights[i];
    switch (functional.terms[i]) {
      case 0: add_term<T, slater<T>>(at, count, weight, total); break;
      case 1: add_term<T, vwn5<T>>(at, count, weight, total); break;
      case 2: add_term<T, vwn_rpa<T>>(at, count, weight, total); break;
      case 3: add_term<T, pbe_exchange<T>>(at, count, weight, total); break;
      case 4: add_term<T, pbe_correlation<T>>(at, count, weight, total); break;
      case 5: add_term<T, b88<T>>(at, count, weight, total); break;
      case 6: add_term<T, lyp<T>>(at, count, weight, total); break;
    }
  }
}

}  // namespace srdft::grid
