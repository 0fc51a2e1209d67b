"""A condition to an image."""
