"""Without a condition, or picture to picture: autoencoders, GANs, translation."""
