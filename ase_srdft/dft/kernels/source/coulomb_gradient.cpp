// Derivatives of three-centre Coulomb integrals, contracted with a few products in one pass.
//
//   dX/dR,  X = sum_k sum_mn,Q D^k_mn h^k_Q (mn|Q),
//
// by Hermite densities (a "J engine": the sum over orbitals is taken before the integrals are).
// The first side is H^k_t = sum_mn D^k_mn E^mn_t at P; with V^k_t = sum_Q h^k_Q [t|Q] its energy is
// sum_t H_t V_t, its derivative by P is sum_t H_t V_{t+1}, that by the second centre the negative,
// and the E depend on A - B besides.  WIDTH pairs of primitives are worked on at once.
#include <algorithm>
#include <memory>

#include "coulomb_kets.hpp"
#include "exported.hpp"
#include "parallel.hpp"

namespace srdft {
namespace {

// Densities that are worked on together where there is more than one.
constexpr int TERMS = 5;

// WIDTH first sides of one degree L.
template <int L, int K>
struct Bras {
  Vec p, centre[3];
  Vec H[K][nhermite(L)], slope[3][K][nhermite(L)];  // and its derivative by A - B
  double share[WIDTH];                              // a / p
  int first[WIDTH], second[WIDTH], count;           // atoms A and B
};

// Adds the contributions of WIDTH first sides to the gradient (natoms, 3).
template <int L, int K>
void add_gradient(const BoysTable& table, const Bras<L, K>& bras, const KetDensities& kets,
                  const double* positions, double* gradient) {
  constexpr int NV = nhermite(L + 1);
  alignas(64) Vec V[K * NV], total[K * NV] = {};
  for (int atom = 0; atom < kets.natoms; ++atom) {
    if (kets.first[atom] == kets.first[atom + 1]) continue;
    Vec r[3], force[3] = {};
    for (int c = 0; c < 3; ++c) r[c] = bras.centre[c] - positions[3 * atom + c];
    potential_of_atom<L + 1, K>(table, kets, atom, bras.p, r, V);
    for (int k = 0; k < K; ++k)
      for (int t = 0; t < nhermite(L); ++t)
        for (int c = 0; c < 3; ++c) force[c] += bras.H[k][t] * V[k * NV + sum_of(t, 1 + c)];
    for (int c = 0; c < 3; ++c) gradient[3 * atom + c] -= sum(force[c]);
    for (int i = 0; i < K * NV; ++i) total[i] += V[i];
  }
  Vec by_centre[3] = {}, by_separation[3] = {};
  for (int k = 0; k < K; ++k)
    for (int t = 0; t < nhermite(L); ++t)
      for (int c = 0; c < 3; ++c) {
        by_centre[c] += bras.H[k][t] * total[k * NV + sum_of(t, 1 + c)];
        by_separation[c] += bras.slope[c][k][t] * total[k * NV + t];
      }
  for (int lane = 0; lane < bras.count; ++lane)
    for (int c = 0; c < 3; ++c) {
      const double by_first = bras.share[lane] * by_centre[c][lane] + by_separation[c][lane];
      gradient[3 * bras.first[lane] + c] += by_first;
      gradient[3 * bras.second[lane] + c] += by_centre[c][lane] - by_first;
    }
}

// H and its slope of one pair; D^k is in the primitives' Cartesian functions.
template <int L, int K>
void fill_lane(Bras<L, K>& bras, int lane, const Primitives& primitives, const PairGeometry& at,
               PrimitivePair pair, const double* D) {
  const std::size_t n = primitives.ncartesians;
  const double weight = pair.i == pair.j ? 1.0 : 2.0;
  int row = primitives.first_cartesian[pair.i];
  for (int li = 0; li <= MAX_L; ++li) {
    if (!(primitives.momenta[pair.i] & 1 << li)) continue;
    for (int a = nhermite(li - 1); a < nhermite(li); ++a, ++row) {
      int column = primitives.first_cartesian[pair.j];
      for (int lj = 0; lj <= MAX_L; ++lj) {
        if (!(primitives.momenta[pair.j] & 1 << lj)) continue;
        for (int b = nhermite(lj - 1); b < nhermite(lj); ++b, ++column) {
          const double *e[3], *de[3];
          int top[3];
          for (int c = 0; c < 3; ++c) {
            const int i = HERMITE.power[c][a], j = HERMITE.power[c][b];
            e[c] = at.axes[c].value[i][j];
            de[c] = at.axes[c].slope[i][j];
            top[c] = i + j;
          }
          double d[K];
          for (int k = 0; k < K; ++k) d[k] = weight * D[(k * n + row) * n + column];
          for (int t = 0; t <= top[0]; ++t)
            for (int u = 0; u <= top[1]; ++u)
              for (int v = 0; v <= top[2]; ++v) {
                const int here = place(t, u, v);
                const double value = e[0][t] * e[1][u] * e[2][v];
                const double slopes[3] = {de[0][t] * e[1][u] * e[2][v], e[0][t] * de[1][u] * e[2][v],
                                          e[0][t] * e[1][u] * de[2][v]};
                for (int k = 0; k < K; ++k) {
                  bras.H[k][here][lane] += d[k] * value;
                  for (int c = 0; c < 3; ++c) bras.slope[c][k][here][lane] += d[k] * slopes[c];
                }
              }
        }
      }
    }
  }
}

template <int L, int K>
void pairs_gradient(const BoysTable& table, const Primitives& primitives, const double* D,
                    const KetDensities& kets, const double* positions, const PrimitivePair* pairs,
                    int count, double* gradient) {
  auto bras = std::make_unique<Bras<L, K>>();
  bras->count = count;
  PairGeometry at;
  for (int lane = 0; lane < WIDTH; ++lane) {
    const PrimitivePair pair = pairs[std::min(lane, count - 1)];
    at.fill(primitives, positions, pair);
    bras->p[lane] = at.p;
    for (int c = 0; c < 3; ++c) bras->centre[c][lane] = at.centre[c];
    if (lane >= count) continue;
    bras->share[lane] = at.share;
    bras->first[lane] = primitives.atoms[pair.i];
    bras->second[lane] = primitives.atoms[pair.j];
    fill_lane(*bras, lane, primitives, at, pair, D);
  }
  add_gradient(table, *bras, kets, positions, gradient);
}

// WIDTH pairs of one degree.
struct Job {
  int degree, first, count;
};

template <int K>
void three_center_gradient(const Primitives& primitives, const double* D, const KetDensities& kets,
                           const double* positions, int threads, double* gradient) {
  std::vector<PrimitivePair> pairs[2 * MAX_L + 1];
  for (int i = 0; i < primitives.count; ++i)
    for (int j = 0; j <= i; ++j)
      if (overlap(primitives, positions, i, j))
        pairs[highest(primitives.momenta[i]) + highest(primitives.momenta[j])].push_back({i, j});
  std::vector<Job> jobs;
  for (int degree = 2 * MAX_L; degree >= 0; --degree)
    for (int first = 0; first < static_cast<int>(pairs[degree].size()); first += WIDTH)
      jobs.push_back({degree, first, std::min<int>(WIDTH, pairs[degree].size() - first)});
  const BoysTable& table = BoysTable::get();
  const int size = 3 * primitives.natoms;
  std::vector<double> shares(static_cast<std::size_t>(SHARES) * size, 0.0);
  parallel_for(threads, SHARES, [&](int, int share) {
    double* own = shares.data() + static_cast<std::size_t>(share) * size;
    for (std::size_t at = share; at < jobs.size(); at += SHARES) {
      const Job& job = jobs[at];
      const PrimitivePair* first = pairs[job.degree].data() + job.first;
      with_constant<2 * MAX_L>(job.degree, [&](auto L) {
        pairs_gradient<L, K>(table, primitives, D, kets, positions, first, job.count, own);
      });
    }
  });
  for (int share = 0; share < SHARES; ++share)
    for (int i = 0; i < size; ++i) gradient[i] += shares[static_cast<std::size_t>(share) * size + i];
}

}  // namespace

// Adds dX/dR (natoms, 3) of K = 1 or TERMS symmetric densities D^k (K, ncartesians, ncartesians).
SRDFT_EXPORT int srdft_three_center_gradient(
    int terms, int natoms, int nprimitives, const int* atoms, const double* exponents,
    const int* momenta, const int* first_cartesian, int ncartesians, const double* D,
    const int* ket_first, const int* ket_momenta, const double* ket_exponents,
    const int* ket_first_number, const double* ket_densities, const double* positions, int threads,
    double* gradient) {
  return guarded([&] {
    const Primitives primitives{nprimitives, natoms, atoms, exponents, momenta, first_cartesian,
                                ncartesians};
    const KetDensities kets{natoms, ket_first, ket_momenta, ket_exponents, ket_first_number,
                            ket_densities};
    if (terms == 1)
      three_center_gradient<1>(primitives, D, kets, positions, threads, gradient);
    else
      three_center_gradient<TERMS>(primitives, D, kets, positions, threads, gradient);
  });
}

}  // namespace srdft
