// Exchange-correlation energy and potential by quadrature, and the adjoint of the potential.
//
//   E_xc = sum_g w_g e(rho_g, sigma_g),  rho = chi^T P chi,  sigma = |grad rho|^2,
//   V_xc = dE_xc/dP = sum_g w_g (de/drho chi chi^T + 2 de/dsigma grad rho . grad(chi chi^T)),
//
// block by block, with the derivatives by weights and by nuclei, whose orbitals and whose points
// move.  dft/xc/quadrature.py is the same in torch.
#include "exported.hpp"
#include "functionals.hpp"
#include "orbital_sums.hpp"
#include "parallel.hpp"

namespace srdft::grid {

// Geometries of one molecule on their grid, as Python hands them over; batches run first.
struct Geometries {
  int batch, nblocks;
  const int* owners;        // the atom that the points of a block move with
  const double* offsets;    // of the points from their owners, (3, nblocks * BLOCK), Bohr
  const double* positions;  // (batch, natoms, 3), Bohr
  const double* weights;    // (batch, nblocks * BLOCK), Bohr^3
};

namespace {

// What one share of the blocks adds up to.
struct Share {
  Vec energy = {};
  std::vector<double> matrix;  // lower triangle
  std::vector<double> by_nucleus;

  explicit Share(const Basis& basis)
      : matrix(static_cast<std::size_t>(basis.nao) * basis.nao), by_nucleus(3 * basis.natoms) {}
  void clear() {
    energy = Vec{};
    std::fill(matrix.begin(), matrix.end(), 0.0);
    std::fill(by_nucleus.begin(), by_nucleus.end(), 0.0);
  }
};

// rho and grad rho on a block
struct Density {
  Scalars rho;
  Field gradient;
};

inline Vec dot(const Field& a, const Field& b, int j) {
  return a.x[0][j] * b.x[0][j] + a.x[1][j] * b.x[1][j] + a.x[2][j] * b.x[2][j];
}

// One thread's memory, and the steps that both kernels take on a block.
class Block {
 public:
  Block(const Basis& basis, bool gradient, int narrays)
      : orbitals(basis),
        gradient_(gradient),
        nrows_(padded(basis.nao)),
        rows_(narrays * nrows_),
        packed_{std::vector<double>(std::size_t(basis.nao) * basis.nao),
                std::vector<double>(std::size_t(basis.nao) * basis.nao)},
        product_(static_cast<std::size_t>(nrows_) * nrows_) {}

  // One of the arrays (nao, BLOCK) to work in
  Vec* array(int i) { return rows_[i * nrows_]; }

  void load(const Geometries& at, const double* positions, int number, const double* weights,
            int order) {
    Field points;
    const std::size_t npoints = std::size_t(at.nblocks) * BLOCK;
    for (int k = 0; k < 3; ++k) {
      const double* offsets = at.offsets + k * npoints + std::size_t(number) * BLOCK;
      for (int j = 0; j < VECTORS; ++j)
        points.x[k][j] = srdft::load(offsets + j * WIDTH) + positions[3 * at.owners[number] + k];
    }
    for (int j = 0; j < VECTORS; ++j) weight[j] = srdft::load(weights + j * WIDTH);
    orbitals.evaluate(positions, points, order);
  }
  // The matrix of a geometry among the active orbitals; two are kept
  const double* active(const double* matrix, int number) {
    return orbitals.pack(matrix, packed_[number]);
  }
  void contract(const double* matrix, const Vec* x, bool add, Vec* product) {
    multiply(matrix, orbitals.count(), x, add, product);
  }
  void density(const double* matrix, Vec* contracted, Density& result) {
    contract(matrix, orbitals.values(), false, contracted);
    add_density(orbitals, contracted, gradient_, result.rho, result.gradient);
  }
  // Lower triangle of (a chi / 2 + v . grad chi) chi^T plus transpose
  void add_matrix(const Potential& potential, Vec* applied, std::vector<double>& matrix) {
    const int n = orbitals.count();
    half_apply(orbitals, potential, gradient_, applied);
    std::fill(applied + n * STRIDE, applied + padded(n) * STRIDE, broadcast(0.0));
    symmetric_product(applied, orbitals.values(), n, product_.data());
    orbitals.add_unpacked(product_.data(), padded(n), matrix.data());
  }

  OrbitalsOnBlock orbitals;
  Scalars weight;

 private:
  bool gradient_;
  int nrows_;
  Rows rows_;
  std::vector<double> packed_[2], product_;
};

// e, and its derivatives times the weights
void evaluate(const Functional& functional, const Density& at, const Scalars& weight,
              Scalars& energy, Potential& potential) {
  Variables<Vec> variables[VECTORS];
  Derivatives<Vec> derivatives[VECTORS] = {};
  for (int j = 0; j < VECTORS; ++j)
    variables[j] = Variables<Vec>::of(at_least(at.rho[j], DENSITY_THRESHOLD),
                                      dot(at.gradient, at.gradient, j));
  add_terms(functional, variables, VECTORS, derivatives);
  for (int j = 0; j < VECTORS; ++j) {
    const auto populated = at.rho[j] > DENSITY_THRESHOLD;
    const Derivatives<Vec>& e = derivatives[j];
    energy[j] = populated ? e.energy : broadcast(0.0);
    potential.scalar[j] = populated ? e.by_rho * weight[j] : broadcast(0.0);
    const Vec scale = populated ? 2.0 * e.by_sigma * weight[j] : broadcast(0.0);
    for (int k = 0; k < 3; ++k) potential.vector.x[k][j] = scale * at.gradient.x[k][j];
  }
}

// h = (de/drho) rho~ + de/d(grad rho) . grad rho~, and its derivatives by rho and by rho~ times
// the weights: the duals move along (rho~, 2 grad rho . grad rho~)
void respond(const Functional& functional, const Density& at, const Density& trial,
             const Scalars& weight, Scalars& response, Potential& kernel, Potential& potential) {
  Variables<Dual> variables[VECTORS];
  Derivatives<Dual> derivatives[VECTORS] = {};
  for (int j = 0; j < VECTORS; ++j)
    variables[j] = Variables<Dual>::of(
        {at_least(at.rho[j], DENSITY_THRESHOLD), trial.rho[j]},
        {dot(at.gradient, at.gradient, j), 2.0 * dot(at.gradient, trial.gradient, j)});
  add_terms(functional, variables, VECTORS, derivatives);
  const Vec zero = {};
  for (int j = 0; j < VECTORS; ++j) {
    const auto populated = at.rho[j] > DENSITY_THRESHOLD;
    const Derivatives<Dual>& e = derivatives[j];
    response[j] = populated ? e.energy.slope : zero;
    potential.scalar[j] = populated ? e.by_rho.value * weight[j] : zero;
    kernel.scalar[j] = populated ? e.by_rho.slope * weight[j] : zero;
    const Vec scale = populated ? 2.0 * e.by_sigma.value * weight[j] : zero;
    const Vec change = populated ? 2.0 * e.by_sigma.slope * weight[j] : zero;
    for (int k = 0; k < 3; ++k) {
      const Vec slope = at.gradient.x[k][j];
      potential.vector.x[k][j] = scale * slope;
      kernel.vector.x[k][j] = change * slope + scale * trial.gradient.x[k][j];
    }
  }
}

// E_xc, V_xc, e, and the derivative by the nuclei.
struct Energy {
  static constexpr int NARRAYS = 3;
  const Functional& functional;
  const double* density_matrix;
  bool moves;

  int order() const { return (functional.needs_gradient ? 1 : 0) + (moves ? 1 : 0); }

  void operator()(Block& block, std::size_t offset, int owner, Scalars& by_weight,
                  Share& share) const {
    const bool gradient = functional.needs_gradient;
    const double* matrix = block.active(density_matrix + offset, 0);
    Vec *contracted = block.array(0), *applied = block.array(1), *cotangent = block.array(2);
    Density density;
    Potential potential;
    block.density(matrix, contracted, density);
    evaluate(functional, density, block.weight, by_weight, potential);
    for (int j = 0; j < VECTORS; ++j) share.energy += by_weight[j] * block.weight[j];
    block.add_matrix(potential, applied, share.matrix);
    if (!moves) return;
    if (gradient) block.contract(matrix, applied, false, cotangent);
    add_position_gradient<1>(block.orbitals, cotangent, {{contracted, &potential}}, gradient, owner,
                             share.by_nucleus.data());
  }
};

// Tr(W V_xc[P]) for a symmetric W: the derivative by P, h, and the derivative by the nuclei.
struct PotentialAdjoint {
  static constexpr int NARRAYS = 4;
  const Functional& functional;
  const double *density_matrix, *cotangent_matrix;
  bool moves;

  int order() const { return (functional.needs_gradient ? 1 : 0) + (moves ? 1 : 0); }

  void operator()(Block& block, std::size_t offset, int owner, Scalars& by_weight,
                  Share& share) const {
    const bool gradient = functional.needs_gradient;
    const double *matrix = block.active(density_matrix + offset, 0),
                 *trial_matrix = block.active(cotangent_matrix + offset, 1);
    Vec *contracted = block.array(0), *trial_contracted = block.array(1),
        *applied = block.array(2), *cotangent = block.array(3);
    Density density, trial;
    Potential kernel, potential;
    block.density(matrix, contracted, density);
    block.density(trial_matrix, trial_contracted, trial);
    respond(functional, density, trial, block.weight, by_weight, kernel, potential);
    block.add_matrix(kernel, applied, share.matrix);
    if (!moves) return;
    if (gradient) {
      block.contract(matrix, applied, false, cotangent);
      half_apply(block.orbitals, potential, gradient, applied);
      block.contract(trial_matrix, applied, true, cotangent);
    }
    add_position_gradient<2>(block.orbitals, cotangent,
                             {{contracted, &kernel}, {trial_contracted, &potential}}, gradient,
                             owner, share.by_nucleus.data());
  }
};

// Where the sums go; a null pointer is not wanted.
struct Results {
  double* energy;      // (batch,)
  double* matrix;      // (batch, nao, nao)
  double* by_weight;   // (batch, npoints)
  double* by_nucleus;  // (batch, natoms, 3)
};

void add_shares(const std::vector<Share>& shares, std::size_t first, const Basis& basis,
                std::size_t geometry, const Results& results) {
  const std::size_t nao = basis.nao, n = nao * nao, ncoordinates = 3 * basis.natoms;
  std::vector<double> lower(n, 0.0), by_nucleus(ncoordinates, 0.0);
  double energy = 0.0;
  for (std::size_t s = first; s < first + SHARES; ++s) {
    energy += sum(shares[s].energy);
    for (std::size_t i = 0; i < n; ++i) lower[i] += shares[s].matrix[i];
    for (std::size_t i = 0; i < ncoordinates; ++i) by_nucleus[i] += shares[s].by_nucleus[i];
  }
  if (results.energy) results.energy[geometry] = energy;
  if (results.by_nucleus)
    std::copy(by_nucleus.begin(), by_nucleus.end(), results.by_nucleus + geometry * ncoordinates);
  double* matrix = results.matrix + geometry * n;
  for (std::size_t i = 0; i < nao; ++i)
    for (std::size_t j = 0; j <= i; ++j)
      matrix[i * nao + j] = matrix[j * nao + i] = lower[i * nao + j];
}

template <class Kernel>
void walk(const Kernel& kernel, const Basis& basis, const Geometries& at, int geometry, int share,
          Block& block, double* by_weight, Share& sums) {
  const std::size_t g = geometry, n = basis.nao, npoints = std::size_t(at.nblocks) * BLOCK;
  sums.clear();
  for (int b = share; b < at.nblocks; b += SHARES) {
    const std::size_t first = g * npoints + std::size_t(b) * BLOCK;
    block.load(at, at.positions + g * 3 * basis.natoms, b, at.weights + first, kernel.order());
    Scalars by_weight_here = {};
    if (block.orbitals.count() > 0)
      kernel(block, g * n * n, at.owners[b], by_weight_here, sums);
    if (by_weight)
      for (int j = 0; j < VECTORS; ++j) store(by_weight + first + j * WIDTH, by_weight_here[j]);
  }
}

// Geometries are shared out first, then blocks: as many geometries at a time as threads.
template <class Kernel>
void run(const Kernel& kernel, const Basis& basis, const Geometries& at, int threads,
         const Results& results) {
  const int together = std::min(threads, at.batch);
  std::vector<Share> shares(static_cast<std::size_t>(together) * SHARES, Share(basis));
  std::vector<Block> blocks;
  for (int t = 0; t < threads; ++t)
    blocks.emplace_back(basis, kernel.functional.needs_gradient, Kernel::NARRAYS);
  for (int first = 0; first < at.batch; first += together) {
    const int count = std::min(together, at.batch - first);
    parallel_for(threads, count * SHARES, [&](int thread, int i) {
      walk(kernel, basis, at, first + i / SHARES, i % SHARES, blocks[thread], results.by_weight,
           shares[i]);
    });
    for (int i = 0; i < count; ++i) add_shares(shares, i * SHARES, basis, first + i, results);
  }
}

}  // namespace

SRDFT_EXPORT int srdft_xc_energy(const Basis* basis, const Functional* functional,
                                 const Geometries* geometries, const double* density_matrix,
                                 int threads, double* energy, double* potential,
                                 double* by_weight, double* by_nucleus) {
  const Energy kernel{*functional, density_matrix, by_nucleus != nullptr};
  return guarded([&] {
    run(kernel, *basis, *geometries, threads, {energy, potential, by_weight, by_nucleus});
  });
}

// cotangent: W, symmetric
SRDFT_EXPORT int srdft_xc_potential_adjoint(const Basis* basis, const Functional* functional,
                                            const Geometries* geometries,
                                            const double* density_matrix, const double* cotangent,
                                            int threads, double* by_matrix, double* by_weight,
                                            double* by_nucleus) {
  const PotentialAdjoint kernel{*functional, density_matrix, cotangent, by_nucleus != nullptr};
  return guarded([&] {
    run(kernel, *basis, *geometries, threads, {nullptr, by_matrix, by_weight, by_nucleus});
  });
}

}  // namespace srdft::grid
