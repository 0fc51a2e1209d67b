"""Text embedding to image embedding."""
