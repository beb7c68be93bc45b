"""What PySCF's SCF says of geometries, and how far a model is from it."""
