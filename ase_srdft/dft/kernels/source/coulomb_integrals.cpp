// Three-centre and two-centre Coulomb integrals (mn|Q) and (P|Q).
//
//   (mn|Q) = sum over pairs of primitives of sum_t E^mn_t [t|Q],
//   [t|Q] = sum_p c_p sum_c S^Q_c R_{t+c},
//
// with the contraction of Q taken first.  WIDTH pairs of primitives of one pair of atoms are worked
// on at once: the rows (mn) of two pairs of atoms are different ones.
#include <algorithm>
#include <vector>

#include "coulomb_kets.hpp"
#include "exported.hpp"
#include "parallel.hpp"

namespace srdft {
namespace {

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

// Orbital shells that have an exponent: their first orbital and coefficient.
struct OrbitalShells {
  const int* first;  // of each exponent and l, (nprimitives * (MAX_L + 1) + 1)
  const int* orbital;
  const double* coefficient;
  const double* harmonics[MAX_L + 1];  // (2l + 1, ncartesian(l))
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
    const int l = shells.momenta[shell];
    Vec r[3];
    for (int c = 0; c < 3; ++c) r[c] = centre[c] - positions[3 * shells.atoms[shell] + c];
    switch (l) {
      case 0: shell_integrals<L, 0>(table, p, r, shells, shell, G); break;
      case 1: shell_integrals<L, 1>(table, p, r, shells, shell, G); break;
      case 2: shell_integrals<L, 2>(table, p, r, shells, shell, G); break;
      case 3: shell_integrals<L, 3>(table, p, r, shells, shell, G); break;
      case 4: shell_integrals<L, 4>(table, p, r, shells, shell, G); break;
      default: shell_integrals<L, 5>(table, p, r, shells, shell, G);
    }
    for (int m = 0; m <= 2 * l; ++m)
      for (int t = 0; t < nhermite(L); ++t) {
        const Vec value = G[m * nhermite(L) + t];
        for (int lane = 0; lane < WIDTH; ++lane)
          result[(static_cast<std::size_t>(lane) * nhermite(L) + t) * shells.nfunctions +
                 shells.first_function[shell] + m] = value[lane];
      }
  }
}

void all_integrals_of(int degree, const BoysTable& table, const Vec& p, const Vec* centre,
                      const AuxiliaryShells& shells, const double* positions, double* result) {
  switch (degree) {
    case 0: all_integrals<0>(table, p, centre, shells, positions, result); break;
    case 1: all_integrals<1>(table, p, centre, shells, positions, result); break;
    case 2: all_integrals<2>(table, p, centre, shells, positions, result); break;
    case 3: all_integrals<3>(table, p, centre, shells, positions, result); break;
    case 4: all_integrals<4>(table, p, centre, shells, positions, result); break;
    case 5: all_integrals<5>(table, p, centre, shells, positions, result); break;
    default: all_integrals<6>(table, p, centre, shells, positions, result);
  }
}

// E^mn_t of two solid harmonics of one pair of primitives, by t.
void harmonic_expansion(const PairGeometry& at, const OrbitalShells& orbitals, int li, int m, int lj,
                        int n, double* E) {
  std::fill(E, E + nhermite(li + lj), 0.0);
  for (int a = 0; a < ncartesian(li); ++a) {
    const double left = orbitals.harmonics[li][m * ncartesian(li) + a];
    if (left == 0.0) continue;
    for (int b = 0; b < ncartesian(lj); ++b) {
      const double factor = left * orbitals.harmonics[lj][n * ncartesian(lj) + b];
      if (factor == 0.0) continue;
      const double* e[3];
      int top[3];
      for (int c = 0; c < 3; ++c) {
        const int i = HERMITE.power[c][nhermite(li - 1) + a], j = HERMITE.power[c][nhermite(lj - 1) + b];
        e[c] = at.axes[c].value[i][j];
        top[c] = i + j;
      }
      for (int t = 0; t <= top[0]; ++t)
        for (int u = 0; u <= top[1]; ++u)
          for (int v = 0; v <= top[2]; ++v) E[place(t, u, v)] += factor * e[0][t] * e[1][u] * e[2][v];
    }
  }
}

// Adds one pair of primitives to the rows of all pairs of orbitals that have them.
class RowSums {
 public:
  RowSums(const Primitives& primitives, const OrbitalShells& orbitals, int naux, double* rows)
      : primitives_(primitives), orbitals_(orbitals), naux_(naux), rows_(rows), sum_(naux) {}

  void add(const PairGeometry& at, PrimitivePair pair, const double* integrals) {
    const bool same_atom = primitives_.atoms[pair.i] == primitives_.atoms[pair.j];
    for (int li = 0; li <= MAX_L; ++li) {
      const int left = pair.i * (MAX_L + 1) + li;
      if (orbitals_.first[left] == orbitals_.first[left + 1]) continue;
      for (int lj = 0; lj <= MAX_L; ++lj) {
        const int right = pair.j * (MAX_L + 1) + lj;
        if (orbitals_.first[right] == orbitals_.first[right + 1]) continue;
        for (int m = 0; m <= 2 * li; ++m)
          for (int n = 0; n <= 2 * lj; ++n) {
            harmonic_expansion(at, orbitals_, li, m, lj, n, E_);
            if (contract(integrals, nhermite(li + lj))) spread(left, m, right, n, same_atom);
          }
      }
    }
  }

 private:
  const Primitives& primitives_;
  const OrbitalShells& orbitals_;
  const int naux_;
  double* rows_;
  std::vector<double> sum_;
  double E_[nhermite(2 * MAX_L)];

  // sum_t E_t [t|Q]; whether there is any.
  bool contract(const double* integrals, int nterms) {
    bool any = false;
    for (int t = 0; t < nterms; ++t) {
      const double factor = E_[t];
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

  // On one atom both orders of two exponents give the same row, but each pair comes here once.
  void spread(int left, int m, int right, int n, bool same_atom) {
    for (int a = orbitals_.first[left]; a < orbitals_.first[left + 1]; ++a)
      for (int b = orbitals_.first[right]; b < orbitals_.first[right + 1]; ++b) {
        long row = orbitals_.orbital[a] + m, column = orbitals_.orbital[b] + n;
        double factor = orbitals_.coefficient[a] * orbitals_.coefficient[b];
        if (same_atom && left / (MAX_L + 1) != right / (MAX_L + 1)) {
          if (row == column) factor *= 2.0;
          if (row < column) std::swap(row, column);
        } else if (row < column) {
          continue;
        }
        double* to = rows_ + (row * (row + 1) / 2 + column) * naux_;
        for (int q = 0; q < naux_; ++q) to[q] += factor * sum_[q];
      }
  }
};

// One pair of atoms: all pairs of their exponents, by degree.
class AtomPair {
 public:
  AtomPair(const Primitives& primitives, const double* positions, const int* first_exponent, int a,
           int b) {
    for (int i = first_exponent[a]; i < first_exponent[a + 1]; ++i)
      for (int j = first_exponent[b]; j < first_exponent[b + 1]; ++j)
        if ((a != b || j <= i) && overlap(primitives, positions, i, j))
          pairs_[highest(primitives.momenta[i]) + highest(primitives.momenta[j])].push_back({i, j});
  }

  void add_to(RowSums& rows, const BoysTable& table, const Primitives& primitives,
              const AuxiliaryShells& shells, const double* positions,
              std::vector<double>& integrals) const {
    PairGeometry at[WIDTH];
    for (int degree = 2 * MAX_L; degree >= 0; --degree) {
      const std::vector<PrimitivePair>& own = pairs_[degree];
      const std::size_t stride = static_cast<std::size_t>(nhermite(degree)) * shells.nfunctions;
      for (std::size_t first = 0; first < own.size(); first += WIDTH) {
        const int count = static_cast<int>(std::min<std::size_t>(WIDTH, own.size() - first));
        Vec p, centre[3];
        for (int lane = 0; lane < WIDTH; ++lane) {
          const int source = std::min(lane, count - 1);
          if (lane < count) at[lane].fill(primitives, positions, own[first + lane]);
          p[lane] = at[source].p;
          for (int c = 0; c < 3; ++c) centre[c][lane] = at[source].centre[c];
        }
        if (integrals.size() < WIDTH * stride) integrals.resize(WIDTH * stride);
        all_integrals_of(degree, table, p, centre, shells, positions, integrals.data());
        for (int lane = 0; lane < count; ++lane)
          rows.add(at[lane], own[first + lane], integrals.data() + lane * stride);
      }
    }
  }

 private:
  std::vector<PrimitivePair> pairs_[2 * MAX_L + 1];
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
    const Primitives primitives{nprimitives, natoms, atoms, exponents, momenta, first_cartesian,
                                ncartesians};
    OrbitalShells orbitals{orbital_first, orbital, orbital_coefficient, {}};
    for (int l = 0; l <= MAX_L; ++l) {
      orbitals.harmonics[l] = harmonics;
      harmonics += (2 * l + 1) * ncartesian(l);
    }
    const AuxiliaryShells shells{naux_shells, naux, aux_atoms, aux_momenta, aux_first_primitive,
                                 aux_first_function, aux_exponents, aux_first_number,
                                 aux_coefficients};
    std::vector<int> first_exponent(natoms + 1, nprimitives);
    for (int i = nprimitives - 1; i >= 0; --i) first_exponent[atoms[i]] = i;
    std::fill(result, result + static_cast<long>(nao) * (nao + 1) / 2 * naux, 0.0);
    const BoysTable& table = BoysTable::get();
    parallel_for(threads, SHARES, [&](int, int share) {
      RowSums rows(primitives, orbitals, naux, result);
      std::vector<double> integrals;
      for (int a = 0, index = 0; a < natoms; ++a)
        for (int b = 0; b <= a; ++b, ++index)
          if (index % SHARES == share)
            AtomPair(primitives, positions, first_exponent.data(), a, b)
                .add_to(rows, table, primitives, shells, positions, integrals);
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
    const BoysTable& table = BoysTable::get();
    std::fill(result, result + static_cast<long>(naux) * naux, 0.0);
    struct Bra {
      int shell, primitive;
    };
    std::vector<Bra> bras[MAX_KET_L + 1];
    for (int shell = 0; shell < naux_shells; ++shell)
      for (int at = aux_first_primitive[shell]; at < aux_first_primitive[shell + 1]; ++at)
        bras[aux_momenta[shell]].push_back({shell, at});
    std::vector<double> integrals;
    for (int l = 0; l <= MAX_KET_L; ++l) {
      const std::size_t stride = static_cast<std::size_t>(nhermite(l)) * naux;
      integrals.resize(WIDTH * stride);
      for (std::size_t first = 0; first < bras[l].size(); first += WIDTH) {
        const int count = static_cast<int>(std::min<std::size_t>(WIDTH, bras[l].size() - first));
        Vec p, centre[3];
        for (int lane = 0; lane < WIDTH; ++lane) {
          const Bra& bra = bras[l][first + std::min(lane, count - 1)];
          p[lane] = aux_exponents[bra.primitive];
          for (int c = 0; c < 3; ++c) centre[c][lane] = positions[3 * aux_atoms[bra.shell] + c];
        }
        all_integrals_of(l, table, p, centre, shells, positions, integrals.data());
        for (int lane = 0; lane < count; ++lane) {
          const Bra& bra = bras[l][first + lane];
          const double* S = aux_coefficients + aux_first_number[bra.primitive];
          const double sign = l % 2 ? -1.0 : 1.0;  // of the second side, not of the first
          for (int m = 0; m <= 2 * l; ++m) {
            double* row = result + static_cast<long>(aux_first_function[bra.shell] + m) * naux;
            for (int c = 0; c < ncartesian(l); ++c) {
              const double factor = sign * S[c * (2 * l + 1) + m];
              if (factor == 0.0) continue;
              const double* from = integrals.data() + lane * stride +
                                   static_cast<std::size_t>(nhermite(l - 1) + c) * naux;
              for (int q = 0; q < naux; ++q) row[q] += factor * from[q];
            }
          }
        }
      }
    }
  });
}

}  // namespace srdft
