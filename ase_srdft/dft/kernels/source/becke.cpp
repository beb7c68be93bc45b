// Becke's partition of space among atoms, and its adjoint.
//
// A. D. Becke, J. Chem. Phys. 88, 2547 (1988), equations 13 to 22, with the size adjustment of
// O. Treutler and R. Ahlrichs, J. Chem. Phys. 102, 346 (1995), equation 4:
//
//   mu_ij = (r_i - r_j) / R_ij,  nu_ij = mu_ij + a_ij (1 - mu_ij^2),  x3 = p(p(p(nu_ij))),
//   p(x) = (3 x - x^3) / 2,  s_ij = (1 - x3) / 2,  W_i = prod_j s_ij,  w = v W_owner / sum_i W_i,
//
// at points that move with the atom that owns them.
#include <cmath>
#include <vector>

#include "exported.hpp"
#include "parallel.hpp"
#include "simd.hpp"

namespace srdft {
namespace {

constexpr int BLOCK = 128;  // points of one owner
constexpr int NVECTORS = BLOCK / WIDTH;
constexpr double SMALLEST_SHARE = 1e-60;

// The molecule, as Python hands it over.
struct Partition {
  int natoms, nblocks;
  const double* adjustment;  // a_ij, (natoms, natoms)
  const double* offsets;     // of the points from their owners, (3, nblocks * BLOCK), Bohr
  const int* owners;         // of the blocks
  const double* volumes;     // v, (nblocks * BLOCK)
};

// 1 / R_ij, zero on the diagonal.
std::vector<double> inverse_separations(int natoms, const double* positions) {
  std::vector<double> inverse(static_cast<std::size_t>(natoms) * natoms, 0.0);
  for (int i = 0; i < natoms; ++i)
    for (int j = 0; j < natoms; ++j) {
      if (i == j) continue;
      double square = 0.0;
      for (int c = 0; c < 3; ++c) {
        const double d = positions[3 * i + c] - positions[3 * j + c];
        square += d * d;
      }
      inverse[i * natoms + j] = 1.0 / std::sqrt(square);
    }
  return inverse;
}

// r_i of all atoms, and from every atom to the points, for one vector of them.
struct Distances {
  std::vector<Vec> distance, away;  // (natoms), (natoms, 3)

  explicit Distances(int natoms) : distance(natoms), away(3 * natoms) {}

  void at(const Partition& partition, const double* positions, int block, int vector) {
    const long npoints = static_cast<long>(partition.nblocks) * BLOCK;
    const long point = static_cast<long>(block) * BLOCK + vector * WIDTH;
    const double* owner = positions + 3 * partition.owners[block];
    for (int i = 0; i < partition.natoms; ++i) {
      Vec square = {};
      for (int c = 0; c < 3; ++c) {
        const double apart = owner[c] - positions[3 * i + c];
        const Vec d = load(partition.offsets + c * npoints + point) + apart;
        away[3 * i + c] = d;
        square += d * d;
      }
      distance[i] = sqrt(square);
    }
  }
};

inline Vec smoother(Vec x) { return 1.5 * x - 0.5 * x * x * x; }

// x3; rounding may lead beyond one, where a share would be negative.
inline Vec smoothed(Vec nu) {
  const Vec x = smoother(smoother(smoother(nu)));
  return min(max(x, broadcast(-1.0)), broadcast(1.0));
}

// dx3/dnu
inline Vec smoothing_slope(Vec nu) {
  const Vec one = smoother(nu), two = smoother(one);
  return 3.375 * (1.0 - nu * nu) * (1.0 - one * one) * (1.0 - two * two);
}

inline Vec adjusted(Vec mu, double a) { return mu + a * (1.0 - mu * mu); }

// W_i of all atoms at one vector of points; returns their sum.
inline Vec cells(const Partition& partition, const std::vector<double>& inverse,
                 const std::vector<Vec>& distance, std::vector<Vec>& cell) {
  const int natoms = partition.natoms;
  for (Vec& each : cell) each = broadcast(1.0);
  for (int i = 0; i < natoms; ++i)
    for (int j = i + 1; j < natoms; ++j) {
      const int pair = i * natoms + j;
      const Vec mu = (distance[i] - distance[j]) * inverse[pair];
      const Vec x = smoothed(adjusted(mu, partition.adjustment[pair]));
      cell[i] *= 0.5 * (1.0 - x);
      cell[j] *= 0.5 * (1.0 + x);
    }
  Vec total = {};
  for (const Vec& each : cell) total += each;
  return max(total, broadcast(SMALLEST_SHARE));
}

// One share of the points' contributions to the gradient: by the atoms and by their separations.
class Gradient {
 public:
  Gradient(const Partition& partition, const std::vector<double>& inverse, const double* positions)
      : partition_(partition), inverse_(inverse), positions_(positions), r_(partition.natoms),
        cell_(partition.natoms), by_distance_(partition.natoms), by_atom_(3 * partition.natoms),
        by_separation_(inverse.size()) {}

  // scaled: cotangents of ln w at one vector of points.
  void add(int block, int vector, Vec scaled) {
    const int natoms = partition_.natoms, owner = partition_.owners[block];
    r_.at(partition_, positions_, block, vector);
    const Vec total = cells(partition_, inverse_, r_.distance, cell_);
    // d ln w = d ln W_owner - sum_k (W_k / sum W) d ln W_k
    for (int i = 0; i < natoms; ++i) {
      cell_[i] = scaled * ((i == owner) - cell_[i] / total);
      by_distance_[i] = Vec{};
    }
    for (int i = 0; i < natoms; ++i)
      for (int j = i + 1; j < natoms; ++j) {
        const int pair = i * natoms + j;
        const double a = partition_.adjustment[pair], inverse = inverse_[pair];
        const Vec mu = (r_.distance[i] - r_.distance[j]) * inverse, nu = adjusted(mu, a);
        const Vec x = smoothed(nu), least = broadcast(SMALLEST_SHARE);
        const Vec by_x = cell_[j] / max(1.0 + x, least) - cell_[i] / max(1.0 - x, least);
        const Vec by_mu = by_x * smoothing_slope(nu) * (1.0 - 2.0 * a * mu) * inverse;
        by_distance_[i] += by_mu;
        by_distance_[j] -= by_mu;
        by_separation_[pair] -= by_mu * mu;
      }
    for (int i = 0; i < natoms; ++i) {
      if (i == owner) continue;  // at rest as its points see it
      const Vec pull = by_distance_[i] / max(r_.distance[i], broadcast(1e-300));
      for (int c = 0; c < 3; ++c) {
        by_atom_[3 * i + c] -= pull * r_.away[3 * i + c];
        by_atom_[3 * owner + c] += pull * r_.away[3 * i + c];
      }
    }
  }

  void add_to(double* gradient) const {
    const int natoms = partition_.natoms;
    for (int k = 0; k < 3 * natoms; ++k) gradient[k] += sum(by_atom_[k]);
    for (int i = 0; i < natoms; ++i)
      for (int j = i + 1; j < natoms; ++j) {
        const double along = sum(by_separation_[i * natoms + j]) * inverse_[i * natoms + j];
        for (int c = 0; c < 3; ++c) {
          const double d = along * (positions_[3 * i + c] - positions_[3 * j + c]);
          gradient[3 * i + c] += d;
          gradient[3 * j + c] -= d;
        }
      }
  }

 private:
  const Partition& partition_;
  const std::vector<double>& inverse_;
  const double* positions_;
  Distances r_;
  std::vector<Vec> cell_, by_distance_, by_atom_, by_separation_;
};

}  // namespace

// w at every point of one geometry.
SRDFT_EXPORT int srdft_becke_weights(int natoms, int nblocks, const double* adjustment,
                                      const double* offsets, const int* owners,
                                      const double* volumes, const double* positions, int threads,
                                      double* weights) {
  return guarded([&] {
    const Partition partition{natoms, nblocks, adjustment, offsets, owners, volumes};
    const std::vector<double> inverse = inverse_separations(natoms, positions);
    parallel_for(threads, SHARES, [&](int, int share) {
      Distances r(natoms);
      std::vector<Vec> cell(natoms);
      for (int block = share; block < nblocks; block += SHARES)
        for (int vector = 0; vector < NVECTORS; ++vector) {
          r.at(partition, positions, block, vector);
          const Vec total = cells(partition, inverse, r.distance, cell);
          const long point = static_cast<long>(block) * BLOCK + vector * WIDTH;
          store(weights + point, load(volumes + point) * cell[owners[block]] / total);
        }
    });
  });
}

// The derivative of sum_g c_g w_g by the nuclei, (natoms, 3), for any c.
SRDFT_EXPORT int srdft_becke_adjoint(int natoms, int nblocks, const double* adjustment,
                                      const double* offsets, const int* owners,
                                      const double* weights, const double* cotangents,
                                      const double* positions, int threads, double* gradient) {
  return guarded([&] {
    const Partition partition{natoms, nblocks, adjustment, offsets, owners, nullptr};
    const std::vector<double> inverse = inverse_separations(natoms, positions);
    std::vector<Gradient> shares(SHARES, Gradient(partition, inverse, positions));
    parallel_for(threads, SHARES, [&](int, int share) {
      for (int block = share; block < nblocks; block += SHARES)
        for (int vector = 0; vector < NVECTORS; ++vector) {
          const long point = static_cast<long>(block) * BLOCK + vector * WIDTH;
          shares[share].add(block, vector, load(weights + point) * load(cotangents + point));
        }
    });
    for (int k = 0; k < 3 * natoms; ++k) gradient[k] = 0.0;
    for (const Gradient& share : shares) share.add_to(gradient);
  });
}

}  // namespace srdft
