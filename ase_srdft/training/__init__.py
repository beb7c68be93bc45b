"""Self-refining training: sampling on the model's own energy, training on the same energy."""
