"""Inference: where weights and cache live, and what a layer, a step and a prompt cost."""
