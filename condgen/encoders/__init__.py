"""Encoders: embed texts and images into one space."""
