"""A condition to a picture."""
