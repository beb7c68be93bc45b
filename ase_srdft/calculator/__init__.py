"""The ASE calculator: eV and Å outside, Hartree and Bohr inside."""
