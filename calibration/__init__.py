"""Calibration: from public measurements to fitted parameters, and how good they are."""
