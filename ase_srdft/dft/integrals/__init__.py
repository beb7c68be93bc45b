"""One- and two-electron integrals and their derivatives."""
