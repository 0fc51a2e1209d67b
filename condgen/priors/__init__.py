"""Priors predict an image embedding from a text embedding.

A prior is built as `network(config, TextSpec)`; its training is called with (prior, normalizer) and keeps the prior as
its attribute `prior`. `calibrate` and `configure` of its `Kind`, if it has them, get embeddings of the training data.
"""

from __future__ import annotations

from condgen.kinds import Kind, Registry, kind_in

PRIORS: Registry[Kind] = Registry("prior")
for _name in ("regression", "diffusion", "autoregressive"):
    PRIORS.register(_name, kind_in(f"condgen.priors.{_name}"))
