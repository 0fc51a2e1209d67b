"""The one loop, checkpoints, and the run on disk and on screen. It imports no model and no data."""
