"""Integration grids: one atom's, and a molecule's."""
