// Products of small matrices with blocks of BLOCK points, in register tiles.
//
// The tile of an instruction set is what fills its registers: 32 of them from AVX-512 on and on
// aarch64, otherwise 16.
#pragma once
#include "simd.hpp"

namespace srdft::grid {

constexpr int BLOCK = 128;
constexpr int VECTORS = BLOCK / WIDTH;  // of a row
// From row to row: one cache line more than a row, else rows would meet in few sets of the cache.
constexpr int STRIDE = VECTORS + 8 / WIDTH;

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILE_ROWS = 6, TILE_VECTORS = 4, TILE_SQUARE = 5;
#else
constexpr int TILE_ROWS = 6, TILE_VECTORS = 2, TILE_SQUARE = 3;
#endif

constexpr int padded(int rows) { return (rows + TILE_SQUARE - 1) / TILE_SQUARE * TILE_SQUARE; }

// Rows of the product on TILE_VECTORS vectors of the points
template <int ROWS>
inline void multiply_tile(const double* matrix, int n, const Vec* x, bool add, Vec* product) {
  Vec tile[ROWS][TILE_VECTORS] = {};
  if (add)
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < TILE_VECTORS; ++v) tile[r][v] = product[r * STRIDE + v];
  for (int k = 0; k < n; ++k)
    for (int r = 0; r < ROWS; ++r)
      for (int v = 0; v < TILE_VECTORS; ++v) tile[r][v] += matrix[r * n + k] * x[k * STRIDE + v];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < TILE_VECTORS; ++v) product[r * STRIDE + v] = tile[r][v];
}

inline void multiply_rows(int rows, const double* matrix, int n, const Vec* x, bool add,
                          Vec* product) {
  switch (rows) {
    case 6: return multiply_tile<6>(matrix, n, x, add, product);
    case 5: return multiply_tile<5>(matrix, n, x, add, product);
    case 4: return multiply_tile<4>(matrix, n, x, add, product);
    case 3: return multiply_tile<3>(matrix, n, x, add, product);
    case 2: return multiply_tile<2>(matrix, n, x, add, product);
    case 1: return multiply_tile<1>(matrix, n, x, add, product);
  }
}

constexpr int PANEL = 32 / WIDTH;  // vectors of the part of x that stays in the nearest cache

// product (n, BLOCK) = matrix (n, n) x (n, BLOCK), or added to what is there
inline void multiply(const double* matrix, int n, const Vec* x, bool add, Vec* product) {
  for (int panel = 0; panel < VECTORS; panel += PANEL)
    for (int row = 0; row < n; row += TILE_ROWS)
      for (int j = panel; j < panel + PANEL; j += TILE_VECTORS)
        multiply_rows(n - row < TILE_ROWS ? n - row : TILE_ROWS, matrix + row * n, n, x + j, add,
                      product + row * STRIDE + j);
}

// tile of a b^T over a block, rows of a and b
inline void add_tile(const Vec* a, const Vec* b, Vec (&tile)[TILE_SQUARE][TILE_SQUARE]) {
  for (int j = 0; j < VECTORS; ++j)
    for (int r = 0; r < TILE_SQUARE; ++r)
      for (int c = 0; c < TILE_SQUARE; ++c) tile[r][c] += a[r * STRIDE + j] * b[c * STRIDE + j];
}

// Lower triangle of product (padded(n), padded(n)) = left right^T + right left^T, both (n, BLOCK);
// their rows must be there up to padded(n), with any finite numbers.  Two products for each sum
// over the lanes of a register, which is what costs.
inline void symmetric_product(const Vec* left, const Vec* right, int n, double* product) {
  constexpr int T = TILE_SQUARE;
  const int stride = padded(n);
  for (int row = 0; row < n; row += T)
    for (int column = 0; column <= row; column += T) {
      Vec tile[T][T] = {};
      add_tile(left + row * STRIDE, right + column * STRIDE, tile);
      if (column < row) add_tile(right + row * STRIDE, left + column * STRIDE, tile);
      double* corner = product + row * stride + column;
      for (int r = 0; r < T; ++r)
        for (int c = 0; c < T; ++c) corner[r * stride + c] = sum(tile[r][c]);
      if (column < row) continue;
      for (int r = 0; r < T; ++r)
        for (int c = 0; c <= r; ++c) corner[r * stride + c] += corner[c * stride + r];
    }
}

}  // namespace srdft::grid
