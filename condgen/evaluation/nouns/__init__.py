"""Evaluation on the Nouns data set, whose images are composed of known layers. Imported only with `--layers`."""
