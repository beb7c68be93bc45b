// All kernels, as one unit: what is compiled for each instruction set (pyproject.toml).
#include "becke.cpp"
#include "coulomb_dense_gradient.cpp"
#include "coulomb_gradient.cpp"
#include "coulomb_integrals.cpp"
#include "instruction_sets.cpp"
#include "quadrature.cpp"
