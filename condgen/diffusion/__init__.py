"""Noise: what the network is asked for, guidance, sampling. It serves vectors and images alike."""
