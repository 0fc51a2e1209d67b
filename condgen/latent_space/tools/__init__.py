"""The latent-space tools, one module each. The first line of a module is the tool's help text."""
