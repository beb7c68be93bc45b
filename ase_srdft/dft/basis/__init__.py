"""Basis sets: element tables, atomic orbitals and their values on a grid."""
