"""Benchmarks: not shipped."""
