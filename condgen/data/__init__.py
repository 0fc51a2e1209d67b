"""Images with captions, labels or partners: reading, checking, batches."""
