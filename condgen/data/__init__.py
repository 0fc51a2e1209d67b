"""Captioned images: where they come from, what is wrong with them, batches of them."""
