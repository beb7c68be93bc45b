"""The potential family: a network without a basis set in its weights."""
