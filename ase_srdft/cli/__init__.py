"""The commands: each parses, builds, calls; no science."""
