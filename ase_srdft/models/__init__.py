"""Electronic-state models: from nuclei to orthonormal occupied orbitals."""
