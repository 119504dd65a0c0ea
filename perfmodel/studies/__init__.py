"""Studies: claims made in public about SRAM, HBM and inference, and what the model says to them."""
