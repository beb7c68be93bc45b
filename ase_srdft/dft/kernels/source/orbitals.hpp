// Atomic orbitals on a block of points.
//
// With d = r - R_atom an orbital is chi = R(d^2) Y(d).  Kept are R_k = (1/x d/dx)^k R(x^2): of them
// orbital_sums.hpp makes the derivatives.
//
// Shells whose extent ends before the block's nearest point are left out: what follows works on
// the orbitals that reach the block.
#pragma once
#include <algorithm>
#include <type_traits>
#include <vector>

#include "harmonics.hpp"
#include "small_gemm.hpp"

namespace srdft::grid {

// A molecule's basis as Python hands it over; shells stand by atom, orbitals in natural order.
struct Basis {
  int natoms, nshells, nao;
  const int* atom;                 // of each shell
  const int* angular;              // of each shell
  const int* first_orbital;        // of each shell
  const int* first_coefficient;    // of each shell, and the end (nshells + 1)
  const int* exponent;             // of each coefficient, an index into exponents
  const double* coefficients;      // of contraction
  const int* first_exponent;       // of each atom, and the end (natoms + 1)
  const double* exponents;         // (Bohr^-2)
  const double* exponent_extents;  // squared distance (Bohr^2) where a primitive ends
  const double* shell_extents;     // squared distance (Bohr^2) where a shell ends
};

// What the shells of one l are to a function that is compiled for it.
template <int L>
using Angular = std::integral_constant<int, L>;

template <class Function>
inline void with_angular(int angular, Function function) {
  switch (angular) {
    case 0: return function(Angular<0>{});
    case 1: return function(Angular<1>{});
    case 2: return function(Angular<2>{});
    case 3: return function(Angular<3>{});
  }
}

// Points (x, y, z) of a block, or a vector field on them.
struct Field {
  alignas(64) Vec x[3][VECTORS];
};

using Scalars = Vec[VECTORS];

// Memory for rows of BLOCK numbers, aligned.
class Rows {
 public:
  explicit Rows(int count) : memory_(static_cast<std::size_t>(count) * STRIDE * WIDTH + 8, 0.0) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    start_ = reinterpret_cast<Vec*>((address + 63) / 64 * 64);
  }
  Rows(const Rows&) = delete;
  Rows(Rows&&) = default;
  Vec* operator[](int row) { return start_ + static_cast<std::size_t>(row) * STRIDE; }
  const Vec* operator[](int row) const { return start_ + static_cast<std::size_t>(row) * STRIDE; }

 private:
  std::vector<double> memory_;
  Vec* start_;
};

// exp(-100) = 4e-44 is nothing, and far below it products get subnormal and slow.
constexpr double LARGEST_EXPONENT = 100.0;

class OrbitalsOnBlock {
 public:
  // A shell that reaches the block, and its first row.
  struct Active {
    int shell, atom, angular, row;
  };
  // Orbitals first ... first + count - 1 of the molecule in rows row ... row + count - 1.
  struct Run {
    int first, row, count;
  };

  // A primitive on the block and its coefficients in R_0, R_1, R_2.
  struct Summand {
    const Vec* primitive;
    double coefficient[3];
  };

  explicit OrbitalsOnBlock(const Basis& basis)
      : basis_(basis),
        displacements_(3 * basis.natoms),
        primitives_(most_exponents(basis)),
        radial_(3 * basis.nshells),
        values_(padded(basis.nao)),
        is_active_(most_exponents(basis)) {
    active_.reserve(basis.nshells);
    runs_.reserve(basis.nshells);
  }

  // order: 0 for values, 1 to allow gradients, 2 nuclear derivatives of gradients
  void evaluate(const double* positions, const Field& points, int order);

  int count() const { return count_; }
  const std::vector<Active>& active() const { return active_; }
  const Vec* values() const { return values_[0]; }
  const Vec* displacement(int atom) const { return displacements_[3 * atom]; }
  // R_0, R_1 and R_2 of an active shell follow each other
  const Vec* radial(int position) const { return radial_[3 * position]; }

  // The rows and columns of the active orbitals of a matrix (nao, nao), (count, count)
  const double* pack(const double* matrix, std::vector<double>& memory) const;
  // Adds the lower triangle of such a block, stored with a stride, to that of its matrix
  void add_unpacked(const double* block, int stride, double* matrix) const;

 private:
  static int most_exponents(const Basis& basis) {
    int most = 1;
    for (int a = 0; a < basis.natoms; ++a)
      most = std::max(most, basis.first_exponent[a + 1] - basis.first_exponent[a]);
    return most;
  }
  Vec nearest(const double* nucleus, const Field& points, Vec* displacement, Scalars& squared);
  template <int ORDER>
  void contract(int shell, Vec* radial);
  void append(int shell, int order);

  const Basis& basis_;
  Rows displacements_, primitives_, radial_, values_;
  std::vector<char> is_active_;
  std::vector<Summand> summands_;
  std::vector<Active> active_;
  std::vector<Run> runs_;
  int count_ = 0;
};

// Displacements from a nucleus and their squares; returns the smallest of these by lane.
inline Vec OrbitalsOnBlock::nearest(const double* nucleus, const Field& points, Vec* displacement,
                                    Scalars& squared) {
  Vec smallest = broadcast(1.0e300);
  for (int j = 0; j < VECTORS; ++j) {
    Vec total = {};
    for (int i = 0; i < 3; ++i) {
      const Vec d = points.x[i][j] - nucleus[i];
      displacement[i * STRIDE + j] = d;
      total += d * d;
    }
    squared[j] = total;
    smallest = min(smallest, total);
  }
  return smallest;
}

inline void OrbitalsOnBlock::evaluate(const double* positions, const Field& points, int order) {
  active_.clear();
  runs_.clear();
  count_ = 0;
  for (int atom = 0, shell = 0; atom < basis_.natoms; ++atom) {
    Scalars squared;
    const Vec lanes = nearest(positions + 3 * atom, points, displacements_[3 * atom], squared);
    double smallest = lanes[0];
    for (int i = 1; i < WIDTH; ++i) smallest = std::min(smallest, double(lanes[i]));
    const int first = basis_.first_exponent[atom];
    for (int e = first; e < basis_.first_exponent[atom + 1]; ++e) {
      is_active_[e - first] = smallest <= basis_.exponent_extents[e];
      if (!is_active_[e - first]) continue;
      Vec* primitive = primitives_[e - first];
      for (int j = 0; j < VECTORS; ++j)
        primitive[j] = exp(at_least(-basis_.exponents[e] * squared[j], -LARGEST_EXPONENT));
    }
    for (; shell < basis_.nshells && basis_.atom[shell] == atom; ++shell)
      if (smallest <= basis_.shell_extents[shell]) append(shell, order);
  }
  // the tiles of outer_product read further rows
  std::fill(values_[count_], values_[padded(count_)], broadcast(0.0));
}

inline void OrbitalsOnBlock::append(int shell, int order) {
  const int angular = basis_.angular[shell], size = size_of(angular);
  const int atom = basis_.atom[shell], first = basis_.first_orbital[shell];
  Vec* radial = radial_[3 * static_cast<int>(active_.size())];
  switch (order) {
    case 0: contract<0>(shell, radial); break;
    case 1: contract<1>(shell, radial); break;
    default: contract<2>(shell, radial);
  }
  const Vec* displacement = displacements_[3 * atom];
  Vec* values = values_[count_];
  with_angular(angular, [&](auto l) {
    constexpr int L = decltype(l)::value;
    for (int j = 0; j < VECTORS; ++j) {
      if constexpr (L == 0) {
        values[j] = radial[j];
      } else {
        const Vec d[3] = {displacement[j], displacement[STRIDE + j], displacement[2 * STRIDE + j]};
        Vec y[size_of(L)];
        harmonics<L>(d, y);
        for (int m = 0; m < size_of(L); ++m) values[m * STRIDE + j] = radial[j] * y[m];
      }
    }
  });
  active_.push_back({shell, atom, angular, count_});
  if (!runs_.empty() && runs_.back().first + runs_.back().count == first)
    runs_.back().count += size;
  else
    runs_.push_back({first, count_, size});
  count_ += size;
}

// R_k = sum_p c_p (-2 alpha_p)^k exp(-alpha_p d^2), k = 0 ... ORDER
template <int ORDER>
inline void OrbitalsOnBlock::contract(int shell, Vec* radial) {
  const int first = basis_.first_exponent[basis_.atom[shell]];
  summands_.clear();
  for (int p = basis_.first_coefficient[shell]; p < basis_.first_coefficient[shell + 1]; ++p) {
    const int e = basis_.exponent[p];
    const double c = basis_.coefficients[p], factor = -2.0 * basis_.exponents[e];
    if (is_active_[e - first])
      summands_.push_back({primitives_[e - first], {c, factor * c, factor * factor * c}});
  }
  for (int j = 0; j < VECTORS; ++j) {
    Vec total[ORDER + 1] = {};
    for (const Summand& summand : summands_)
      for (int k = 0; k <= ORDER; ++k) total[k] += summand.coefficient[k] * summand.primitive[j];
    for (int k = 0; k <= ORDER; ++k) radial[k * STRIDE + j] = total[k];
  }
}

inline const double* OrbitalsOnBlock::pack(const double* matrix,
                                           std::vector<double>& memory) const {
  if (count_ == basis_.nao) return matrix;
  for (const Run& row : runs_)
    for (int i = 0; i < row.count; ++i) {
      const double* from = matrix + static_cast<std::size_t>(row.first + i) * basis_.nao;
      double* to = memory.data() + static_cast<std::size_t>(row.row + i) * count_;
      for (const Run& column : runs_)
        std::copy_n(from + column.first, column.count, to + column.row);
    }
  return memory.data();
}

inline void OrbitalsOnBlock::add_unpacked(const double* block, int stride, double* matrix) const {
  for (const Run& row : runs_)
    for (int i = 0; i < row.count; ++i) {
      const double* from = block + static_cast<std::size_t>(row.row + i) * stride;
      double* to = matrix + static_cast<std::size_t>(row.first + i) * basis_.nao;
      for (const Run& column : runs_) {
        if (column.row > row.row) break;
        const int count = &column == &row ? i + 1 : column.count;
        for (int j = 0; j < count; ++j) to[column.first + j] += from[column.row + j];
      }
    }
}

}  // namespace srdft::grid
