"""The images that the studio keeps, and what is written in images."""
