"""Words and pictures to one space."""
