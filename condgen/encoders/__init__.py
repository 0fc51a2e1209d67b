"""Words and images to one space."""
