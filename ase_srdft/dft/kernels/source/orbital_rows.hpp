// Pairs of primitives, and the rows (mn) of packed pairs of orbitals that have them.
#pragma once
#include <algorithm>
#include <vector>

#include "auxiliary_shells.hpp"

namespace srdft {

// Orbital shells that have an exponent: their first orbital and coefficient.
struct OrbitalShells {
  const int* first;  // of each exponent and l, (nprimitives * (MAX_L + 1) + 1)
  const int* orbital;
  const double* coefficient;
  const double* harmonics[MAX_L + 1];  // (2l + 1, ncartesian(l))
};

// E^mn_t of two solid harmonics of one pair of primitives, and its derivative by A - B.
struct HarmonicExpansion {
  double value[nhermite(2 * MAX_L)], slope[3][nhermite(2 * MAX_L)];

  template <bool SLOPES>
  void fill(const PairGeometry& at, const OrbitalShells& orbitals, int li, int m, int lj, int n) {
    std::fill(value, value + nhermite(li + lj), 0.0);
    if constexpr (SLOPES)
      for (auto& along : slope) std::fill(along, along + nhermite(li + lj), 0.0);
    for (int a = 0; a < ncartesian(li); ++a) {
      const double left = orbitals.harmonics[li][m * ncartesian(li) + a];
      if (left == 0.0) continue;
      for (int b = 0; b < ncartesian(lj); ++b) {
        const double factor = left * orbitals.harmonics[lj][n * ncartesian(lj) + b];
        if (factor != 0.0) add<SLOPES>(at, factor, nhermite(li - 1) + a, nhermite(lj - 1) + b);
      }
    }
  }

 private:
  template <bool SLOPES>
  void add(const PairGeometry& at, double factor, int a, int b) {
    const double *e[3], *de[3];
    int top[3];
    for (int c = 0; c < 3; ++c) {
      const int i = HERMITE.power[c][a], j = HERMITE.power[c][b];
      e[c] = at.axes[c].value[i][j];
      de[c] = at.axes[c].slope[i][j];
      top[c] = i + j;
    }
    for (int t = 0; t <= top[0]; ++t)
      for (int u = 0; u <= top[1]; ++u)
        for (int v = 0; v <= top[2]; ++v) {
          const int here = place(t, u, v);
          value[here] += factor * e[0][t] * e[1][u] * e[2][v];
          if constexpr (SLOPES) {
            slope[0][here] += factor * de[0][t] * e[1][u] * e[2][v];
            slope[1][here] += factor * e[0][t] * de[1][u] * e[2][v];
            slope[2][here] += factor * e[0][t] * e[1][u] * de[2][v];
          }
        }
  }
};

// A solid harmonic of a primitive: the place of its orbitals' shells, l and m.
struct Harmonic {
  int shells, l, m;
};

// function(left, right) for all solid harmonics of the two primitives that orbitals have.
template <class Function>
void each_harmonic_pair(const OrbitalShells& orbitals, PrimitivePair pair, Function function) {
  for (int li = 0; li <= MAX_L; ++li) {
    const int left = pair.i * (MAX_L + 1) + li;
    if (orbitals.first[left] == orbitals.first[left + 1]) continue;
    for (int lj = 0; lj <= MAX_L; ++lj) {
      const int right = pair.j * (MAX_L + 1) + lj;
      if (orbitals.first[right] == orbitals.first[right + 1]) continue;
      for (int m = 0; m <= 2 * li; ++m)
        for (int n = 0; n <= 2 * lj; ++n) function(Harmonic{left, li, m}, Harmonic{right, lj, n});
    }
  }
}

// function(row, factor) for all rows (mn) that have the product of two solid harmonics.
// On one atom both orders of two exponents give the same row, but each pair comes here once.
template <class Function>
void each_row(const OrbitalShells& orbitals, Harmonic left, Harmonic right, bool same_atom,
              Function function) {
  const bool both_orders = same_atom && left.shells / (MAX_L + 1) != right.shells / (MAX_L + 1);
  for (int a = orbitals.first[left.shells]; a < orbitals.first[left.shells + 1]; ++a)
    for (int b = orbitals.first[right.shells]; b < orbitals.first[right.shells + 1]; ++b) {
      long row = orbitals.orbital[a] + left.m, column = orbitals.orbital[b] + right.m;
      double factor = orbitals.coefficient[a] * orbitals.coefficient[b];
      if (both_orders) {
        if (row == column) factor *= 2.0;
        if (row < column) std::swap(row, column);
      } else if (row < column) {
        continue;
      }
      function(row * (row + 1) / 2 + column, factor);
    }
}

// What is known of a molecule and of its auxiliary functions at the nuclei.
struct ThreeCenterTask {
  Primitives primitives;
  OrbitalShells orbitals;
  AuxiliaryShells shells;
  const double* positions;
  std::vector<int> first_exponent;  // of each atom, (natoms + 1)

  ThreeCenterTask(const Primitives& own, int const* orbital_first, const int* orbital,
                  const double* coefficient, const double* harmonics,
                  const AuxiliaryShells& auxiliary, const double* nuclei)
      : primitives(own), orbitals{orbital_first, orbital, coefficient, {}}, shells(auxiliary),
        positions(nuclei), first_exponent(own.natoms + 1, own.count) {
    for (int l = 0; l <= MAX_L; ++l) {
      orbitals.harmonics[l] = harmonics;
      harmonics += (2 * l + 1) * ncartesian(l);
    }
    for (int i = own.count - 1; i >= 0; --i) first_exponent[own.atoms[i]] = i;
  }

  // function(a, b) for the pairs of atoms of one share of the work.
  template <class Function>
  void each_atom_pair(int share, int nshares, Function function) const {
    for (int a = 0, index = 0; a < primitives.natoms; ++a)
      for (int b = 0; b <= a; ++b, ++index)
        if (index % nshares == share) function(a, b);
  }

  // function(pair geometry, pair, degree, [t|Q]) for all pairs of exponents of two atoms, with the
  // integrals up to `further` above the degree of the product.
  template <class Function>
  void each_primitive_pair(int a, int b, int further, std::vector<double>& integrals,
                           Function function) const {
    std::vector<PrimitivePair> by_degree[2 * MAX_L + 1];
    for (int i = first_exponent[a]; i < first_exponent[a + 1]; ++i)
      for (int j = first_exponent[b]; j < first_exponent[b + 1]; ++j)
        if ((a != b || j <= i) && overlap(primitives, positions, i, j))
          by_degree[highest(primitives.momenta[i]) + highest(primitives.momenta[j])].push_back({i, j});
    PairGeometry at[WIDTH];
    for (int degree = 2 * MAX_L; degree >= 0; --degree) {
      const std::vector<PrimitivePair>& own = by_degree[degree];
      const std::size_t stride = static_cast<std::size_t>(nhermite(degree + further)) * shells.nfunctions;
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
        all_integrals_of(degree + further, BoysTable::get(), p, centre, shells, positions,
                         integrals.data());
        for (int lane = 0; lane < count; ++lane)
          function(at[lane], own[first + lane], degree, integrals.data() + lane * stride);
      }
    }
  }
};

}  // namespace srdft
