"""The training loop, checkpoints, run folder and progress display. Imports no models and no data."""
