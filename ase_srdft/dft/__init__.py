"""Kohn-Sham theory in torch: level of theory, integrals, grid, energy, projector, certificate."""
