"""Kernels: differentiable counts of work, one file for each family.

Each has one shape, `kernel(chip, plan, sizes...) -> Work`: it counts FLOPs, bytes by
tier and latencies for each way to schedule it, and `perfmodel.roofline` prices them.
"""
