"""Without a condition, or image to image: autoencoders, GANs, translation."""
