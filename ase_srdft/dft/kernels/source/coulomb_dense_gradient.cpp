// Derivatives of three-centre and two-centre Coulomb integrals, contracted with any array.
//
//   dX/dR,  X = sum_{m>=n,Q} W_mnQ (mn|Q)  or  X = sum_PQ W_PQ (P|Q), W_PQ = W_QP.
//
// Of a pair of primitives with U_tQ = sum_mn W_mnQ E^mn_t, the derivative by its centre P is
// sum_tQ U_tQ [t+1|Q], that by Q's centre the negative, and the E depend on A - B besides.  All sums
// run over Q last: what belongs to an atom is added up once for each pair of atoms.
#include "exported.hpp"
#include "orbital_rows.hpp"
#include "parallel.hpp"

namespace srdft {
namespace {

double sum_of_row(const double* row, int count) {
  double total = 0.0;
  for (int i = 0; i < count; ++i) total += row[i];
  return total;
}

// slope[c] (3, naux) += sum_t U_t [t+1_c|Q], t from `first` to below `last`.
void add_slopes(const double* U, const double* integrals, int first, int last, int naux,
                double* slope) {
  for (int t = first; t < last; ++t)
    for (int c = 0; c < 3; ++c) {
      const double* u = U + static_cast<std::size_t>(t - first) * naux;
      const double* own = integrals + static_cast<std::size_t>(sum_of(t, 1 + c)) * naux;
      double* to = slope + c * naux;
      for (int q = 0; q < naux; ++q) to[q] += u[q] * own[q];
    }
}

// Adds what a share of the pairs of atoms gives to the gradient (natoms, 3).
class DenseSums {
 public:
  DenseSums(const ThreeCenterTask& task, const double* weights, double* gradient)
      : task_(task), naux_(task.shells.nfunctions), weights_(weights), gradient_(gradient),
        row_(naux_), by_centre_(3 * naux_), by_first_(3 * naux_), own_(3 * naux_),
        by_third_(3 * naux_) {}

  void add(const PairGeometry& at, PrimitivePair pair, int degree, const double* integrals) {
    const bool same_atom = task_.primitives.atoms[pair.i] == task_.primitives.atoms[pair.j];
    const int nterms = nhermite(degree);
    const std::size_t size = static_cast<std::size_t>(nterms) * naux_;
    U_.assign((same_atom ? 1 : 4) * size, 0.0);
    each_harmonic_pair(task_.orbitals, pair, [&](Harmonic left, Harmonic right) {
      std::fill(row_.begin(), row_.end(), 0.0);
      each_row(task_.orbitals, left, right, same_atom, [&](long row, double factor) {
        const double* from = weights_ + row * naux_;
        for (int q = 0; q < naux_; ++q) row_[q] += factor * from[q];
      });
      const int last = nhermite(left.l + right.l);
      expansion_.fill<true>(at, task_.orbitals, left.l, left.m, right.l, right.m);
      spread(expansion_.value, last, U_.data());
      if (same_atom) return;  // where A - B is always zero
      for (int c = 0; c < 3; ++c) spread(expansion_.slope[c], last, U_.data() + (1 + c) * size);
    });
    std::fill(own_.begin(), own_.end(), 0.0);
    add_slopes(U_.data(), integrals, 0, nterms, naux_, own_.data());
    for (int i = 0; i < 3 * naux_; ++i) {
      by_centre_[i] += own_[i];
      by_first_[i] += at.share * own_[i];
    }
    if (same_atom) return;
    for (int c = 0; c < 3; ++c) {
      const double* u = U_.data() + (1 + c) * size;
      double* to = by_first_.data() + c * naux_;
      for (int t = 0; t < nterms; ++t, u += naux_)
        for (int q = 0; q < naux_; ++q) to[q] += u[q] * integrals[static_cast<std::size_t>(t) * naux_ + q];
    }
  }

  // The pairs of primitives of atoms a and b are through.
  void finish_atoms(int a, int b) {
    for (int c = 0; c < 3; ++c) {
      const double first = sum_of_row(by_first_.data() + c * naux_, naux_);
      gradient_[3 * a + c] += first;
      gradient_[3 * b + c] += sum_of_row(by_centre_.data() + c * naux_, naux_) - first;
    }
    for (int i = 0; i < 3 * naux_; ++i) by_third_[i] += by_centre_[i];
    std::fill(by_centre_.begin(), by_centre_.end(), 0.0);
    std::fill(by_first_.begin(), by_first_.end(), 0.0);
  }

  // All pairs of atoms are.
  void finish() { subtract_by_atom(task_.shells, by_third_.data(), 1.0, gradient_); }

  // From the atoms of all Q, a derivative (3, naux) times a factor.
  static void subtract_by_atom(const AuxiliaryShells& shells, const double* derivative,
                               double factor, double* gradient) {
    for (int shell = 0; shell < shells.count; ++shell)
      for (int c = 0; c < 3; ++c)
        gradient[3 * shells.atoms[shell] + c] -=
            factor * sum_of_row(derivative + c * shells.nfunctions + shells.first_function[shell],
                                2 * shells.momenta[shell] + 1);
  }

 private:
  const ThreeCenterTask& task_;
  const int naux_;
  const double* weights_;
  double* gradient_;
  std::vector<double> U_, row_, by_centre_, by_first_, own_, by_third_;
  HarmonicExpansion expansion_;

  void spread(const double* E, int last, double* U) const {
    for (int t = 0; t < last; ++t) {
      if (E[t] == 0.0) continue;
      double* to = U + static_cast<std::size_t>(t) * naux_;
      for (int q = 0; q < naux_; ++q) to[q] += E[t] * row_[q];
    }
  }
};

}  // namespace

// Adds dX/dR (natoms, 3) of weights W, m >= n packed by rows, (npair, naux).
SRDFT_EXPORT int srdft_three_center_dense_gradient(
    int natoms, int nprimitives, const int* atoms, const double* exponents, const int* momenta,
    const int* first_cartesian, int ncartesians, int, const int* orbital_first, const int* orbital,
    const double* orbital_coefficient, const double* harmonics, int naux_shells, int naux,
    const int* aux_atoms, const int* aux_momenta, const int* aux_first_primitive,
    const int* aux_first_function, const double* aux_exponents, const int* aux_first_number,
    const double* aux_coefficients, const double* positions, int threads, const double* weights,
    double* gradient) {
  return guarded([&] {
    const ThreeCenterTask task({nprimitives, natoms, atoms, exponents, momenta, first_cartesian,
                                ncartesians},
                               orbital_first, orbital, orbital_coefficient, harmonics,
                               {naux_shells, naux, aux_atoms, aux_momenta, aux_first_primitive,
                                aux_first_function, aux_exponents, aux_first_number,
                                aux_coefficients},
                               positions);
    const int size = 3 * natoms;
    std::vector<double> shares(static_cast<std::size_t>(SHARES) * size, 0.0);
    parallel_for(threads, SHARES, [&](int, int share) {
      DenseSums sums(task, weights, shares.data() + static_cast<std::size_t>(share) * size);
      std::vector<double> integrals;
      task.each_atom_pair(share, SHARES, [&](int a, int b) {
        task.each_primitive_pair(a, b, 1, integrals,
                                 [&](const PairGeometry& at, PrimitivePair pair, int degree,
                                     const double* own) { sums.add(at, pair, degree, own); });
        sums.finish_atoms(a, b);
      });
      sums.finish();
    });
    for (std::size_t i = 0; i < shares.size(); ++i) gradient[i % size] += shares[i];
  });
}

// Adds dX/dR (natoms, 3) of symmetric weights W (naux, naux): both sides give the same.
SRDFT_EXPORT int srdft_metric_gradient(int naux_shells, int naux, const int* aux_atoms,
                                        const int* aux_momenta, const int* aux_first_primitive,
                                        const int* aux_first_function, const double* aux_exponents,
                                        const int* aux_first_number,
                                        const double* aux_coefficients, const double* positions,
                                        const double* weights, double* gradient) {
  return guarded([&] {
    const AuxiliaryShells shells{naux_shells, naux, aux_atoms, aux_momenta, aux_first_primitive,
                                 aux_first_function, aux_exponents, aux_first_number,
                                 aux_coefficients};
    std::vector<double> by_first(3 * static_cast<std::size_t>(naux), 0.0), U;
    for (int l = 0; l <= MAX_KET_L; ++l)
      each_auxiliary_primitive(l, 1, shells, positions, [&](int shell, int at, const double* own) {
        U.assign(static_cast<std::size_t>(ncartesian(l)) * naux, 0.0);
        each_harmonic(shells, shell, at, [&](int function, int c, double factor) {
          const double* from = weights + static_cast<long>(function) * naux;
          double* to = U.data() + static_cast<std::size_t>(c) * naux;
          for (int q = 0; q < naux; ++q) to[q] += factor * from[q];
        });
        add_slopes(U.data(), own, nhermite(l - 1), nhermite(l), naux, by_first.data());
      });
    DenseSums::subtract_by_atom(shells, by_first.data(), 2.0, gradient);
  });
}

}  // namespace srdft
