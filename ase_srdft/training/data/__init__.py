"""What is trained on: structures, frames, samples, and their integrals."""
