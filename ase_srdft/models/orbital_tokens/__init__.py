"""The two published families that work on orbital tokens."""
