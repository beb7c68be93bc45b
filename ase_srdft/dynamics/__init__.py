"""ASE dynamics of ours, and training beside them."""
