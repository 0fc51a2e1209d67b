"""Evaluation on one data set, the Nouns, whose images are composed of known layers. Imported only with `--layers`."""
