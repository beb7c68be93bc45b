"""The Fock family: a correction to a guess of the Fock matrix."""
