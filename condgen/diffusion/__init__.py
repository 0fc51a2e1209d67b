"""Diffusion of vectors and images: objectives, guidance, samplers."""
