"""Baselines: autoencoders and GANs, which are unconditional, and image-to-image translation.

Latent networks are built as `network(config, ImageSpec)`; their training is called with (network, objective).
Translation networks are built as `network(config, TranslationSpec)`; `baselines.translation` trains one or two of them.
"""

from __future__ import annotations

from condgen.kinds import Kind, Registry, kind_in

LATENT_NETWORKS: Registry[Kind] = Registry("latent network")
LATENT_NETWORKS.register("autoencoder", kind_in("condgen.baselines.autoencoders"))
LATENT_NETWORKS.register("gan", kind_in("condgen.baselines.gans"))

TRANSLATION_NETWORKS: Registry[Kind] = Registry("translation network")
TRANSLATION_NETWORKS.register("unet", kind_in("condgen.baselines.translation_nets", "UNET"))
TRANSLATION_NETWORKS.register("resnet", kind_in("condgen.baselines.translation_nets", "RESNET"))
