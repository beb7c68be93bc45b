// All kernels, as one unit: what is compiled for each instruction set (pyproject.toml).
#include "becke.cpp"
#include "instruction_sets.cpp"
#include "quadrature.cpp"
