"""Bricks with weights: layers, U-Net, conditioning, normaliser, and how parts are kept on disk."""
