// Three-centre and two-centre Coulomb integrals (mn|Q) and (P|Q).
//
//   (mn|Q) = sum over pairs of primitives of sum_t E^mn_t [t|Q].
//
// WIDTH pairs of primitives of one pair of atoms are worked on at once: the rows (mn) of two pairs
// of atoms are different ones.
#include "exported.hpp"
#include "orbital_rows.hpp"
#include "parallel.hpp"

namespace srdft {
namespace {

// Adds one pair of primitives to the rows of all pairs of orbitals that have them.
class RowSums {
 public:
  RowSums(const ThreeCenterTask& task, double* rows)
      : task_(task), naux_(task.shells.nfunctions), rows_(rows), sum_(naux_) {}

  void add(const PairGeometry& at, PrimitivePair pair, const double* integrals) {
    const int* atoms = task_.primitives.atoms;
    const bool same_atom = atoms[pair.i] == atoms[pair.j];
    each_harmonic_pair(task_.orbitals, pair, [&](Harmonic left, Harmonic right) {
      expansion_.fill<false>(at, task_.orbitals, left.l, left.m, right.l, right.m);
      if (!contract(integrals, nhermite(left.l + right.l))) return;
      each_row(task_.orbitals, left, right, same_atom, [&](long row, double factor) {
        double* to = rows_ + row * naux_;
        for (int q = 0; q < naux_; ++q) to[q] += factor * sum_[q];
      });
    });
  }

 private:
  const ThreeCenterTask& task_;
  const int naux_;
  double* rows_;
  std::vector<double> sum_;
  HarmonicExpansion expansion_;

  // sum_t E_t [t|Q]; whether there is any.
  bool contract(const double* integrals, int nterms) {
    bool any = false;
    for (int t = 0; t < nterms; ++t) {
      const double factor = expansion_.value[t];
      if (factor == 0.0) continue;
      const double* from = integrals + static_cast<std::size_t>(t) * naux_;
      if (any)
        for (int q = 0; q < naux_; ++q) sum_[q] += factor * from[q];
      else
        for (int q = 0; q < naux_; ++q) sum_[q] = factor * from[q];
      any = true;
    }
    return any;
  }
};

}  // namespace

// (mn|Q), m >= n packed by rows, (npair, naux).
SRDFT_EXPORT int srdft_three_center(
    int natoms, int nprimitives, const int* atoms, const double* exponents, const int* momenta,
    const int* first_cartesian, int ncartesians, int nao, const int* orbital_first,
    const int* orbital, const double* orbital_coefficient, const double* harmonics, int naux_shells,
    int naux, const int* aux_atoms, const int* aux_momenta, const int* aux_first_primitive,
    const int* aux_first_function, const double* aux_exponents, const int* aux_first_number,
    const double* aux_coefficients, const double* positions, int threads, double* result) {
  return guarded([&] {
    const ThreeCenterTask task({nprimitives, natoms, atoms, exponents, momenta, first_cartesian,
                                ncartesians},
                               orbital_first, orbital, orbital_coefficient, harmonics,
                               {naux_shells, naux, aux_atoms, aux_momenta, aux_first_primitive,
                                aux_first_function, aux_exponents, aux_first_number,
                                aux_coefficients},
                               positions);
    std::fill(result, result + static_cast<long>(nao) * (nao + 1) / 2 * naux, 0.0);
    parallel_for(threads, SHARES, [&](int, int share) {
      RowSums rows(task, result);
      std::vector<double> integrals;
      task.each_atom_pair(share, SHARES, [&](int a, int b) {
        task.each_primitive_pair(a, b, 0, integrals,
                                 [&](const PairGeometry& at, PrimitivePair pair, int,
                                     const double* own) { rows.add(at, pair, own); });
      });
    });
  });
}

// (P|Q), (naux, naux): the first side is a function like the second.
SRDFT_EXPORT int srdft_metric(int naux_shells, int naux, const int* aux_atoms,
                               const int* aux_momenta, const int* aux_first_primitive,
                               const int* aux_first_function, const double* aux_exponents,
                               const int* aux_first_number, const double* aux_coefficients,
                               const double* positions, double* result) {
  return guarded([&] {
    const AuxiliaryShells shells{naux_shells, naux, aux_atoms, aux_momenta, aux_first_primitive,
                                 aux_first_function, aux_exponents, aux_first_number,
                                 aux_coefficients};
    std::fill(result, result + static_cast<long>(naux) * naux, 0.0);
    for (int l = 0; l <= MAX_KET_L; ++l)
      each_auxiliary_primitive(l, 0, shells, positions, [&](int shell, int at, const double* own) {
        each_harmonic(shells, shell, at, [&](int function, int c, double factor) {
          double* row = result + static_cast<long>(function) * naux;
          const double* from = own + static_cast<std::size_t>(nhermite(l - 1) + c) * naux;
          for (int q = 0; q < naux; ++q) row[q] += factor * from[q];
        });
      });
  });
}

}  // namespace srdft
