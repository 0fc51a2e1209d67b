"""Building blocks of the networks: layers, U-Net, generator, conditioning, flow."""
