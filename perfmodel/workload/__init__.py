"""Workload: model shapes, precision, traffic and parallel plan."""
