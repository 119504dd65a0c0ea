"""Measured kernels and serving runs: where they come from, and which of them are sound."""
