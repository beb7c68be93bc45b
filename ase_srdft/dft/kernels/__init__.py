"""Compiled loops for the CPU: one library for each instruction set, called through ctypes."""
