"""Geometries from Langevin dynamics on a model's own energy, and where that runs."""
