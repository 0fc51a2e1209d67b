"""The header of the page."""
