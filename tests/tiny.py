"""A model that paints noise in no time: every part is there, none is trained."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise

import torch

from condgen.baselines import TRANSLATION_NETWORKS
from condgen.baselines.translation_nets import TranslatorConfig
from condgen.data.attributes import Attribute
from condgen.data.synthetic.grammar import COLOURS, SHAPES, Meaning, say
from condgen.decoders import DECODERS
from condgen.decoders.distillation import DistillationObjective, student_of
from condgen.decoders.upsampler import Upsampler, UpsamplerConfig, UpsamplerSpec
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.tokenizer import Tokenizer
from condgen.nn.specs import CondSpec, EncoderSpec, TextSpec, TranslationSpec
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage, space_of
from condgen.pipelines.unconditional import EmbeddingToImage, UnconditionalDecoder
from condgen.pipelines.upsampling import add_upsamplers
from condgen.priors import PRIORS
from condgen.priors.transformer import EmbeddingNormalizer, EmbeddingSpec
from condgen.priors.unconditional import UnconditionalPrior, UnconditionalPriorConfig

CLOTHES = Attribute("label", ("T-shirt/top", "Trouser", "Sneaker", "Ankle boot"))
LACES = Attribute("laces", ("no", "yes"))
AGE = Attribute("age", mean=40.0, sd=10.0, low=18.0, high=90.0)


def tiny_captions() -> list[str]:
    """Captions of scenes with every colour, shape and relation."""
    kinds = [(colour, SHAPES[i % len(SHAPES)]) for i, colour in enumerate(COLOURS)]
    pairs = list(pairwise(kinds))
    captions = [say(Meaning((kind,), size=size)) for kind, size in zip(kinds, ("small", "large") * 4)]
    captions += [say(Meaning(pair, relation=r)) for pair, r in zip(pairs, ("above", "below", "left of", "right of"))]
    captions += [say(Meaning((kind,), number=n)) for kind, n in zip(kinds, (2, 3, 4, 2, 3))]
    return [*captions, *(say(Meaning(pair)) for pair in pairs[:3])]


def tiny_decoder(kind: str, spec: dict, seed: int = 0) -> torch.nn.Module:
    """An untrained decoder that paints something, always the same."""
    found = DECODERS[kind]
    options = {"channels": (16, 32), "heads": 2, "width": 32, "word_depth": 1}
    options |= {"depth": 1, "steps": 4} if kind == "diffusion" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = found.network(found.config(**options), CondSpec(**spec))
        for parameter in decoder.parameters():
            if not parameter.any():  # layers that start at zero would paint grey, whatever is asked
                torch.nn.init.normal_(parameter, std=0.3)
    return decoder.eval()


def tiny_student(spec: dict, steps: int = 2) -> torch.nn.Module:
    """A decoder of few steps that begins as the tiny diffusion decoder."""
    return student_of(tiny_decoder("diffusion", spec), steps, DistillationObjective()).eval()


def tiny_backbone() -> Backbone:
    """An untrained backbone, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone(BackboneConfig(width=8, depth=1, stages=2), EncoderSpec(8))


def tiny_translator(kind: str = "unet", size: int = 16, reads: int = 3, image_channels: int = 3, seed: int = 0):
    """An untrained generator, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TRANSLATION_NETWORKS[kind].network(
            TranslatorConfig(width=8, blocks=1), TranslationSpec(size, reads, image_channels)
        )


def tiny_upsampler(size: int = 64, low: int = 32, space: str = "", seed: int = 0) -> Upsampler:
    """An untrained upsampler that changes what it enlarges, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        spec = UpsamplerSpec(size, low, embed_dim=16, space=space)
        upsampler = Upsampler(UpsamplerConfig(channels=(8, 16), blocks=1, width=16), spec)
        for parameter in upsampler.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
        upsampler.residual_sd.fill_(0.2)
    return upsampler.eval()


def tiny_cascade() -> TextToImage:
    """The untrained model with upsamplers for 64 and 128 pixels, always the same."""
    model = tiny_model()
    space = model.decoder.spec.space
    add_upsamplers(model, {64: tiny_upsampler(64, 32, space), 128: tiny_upsampler(128, 64, space, seed=1)})
    return model


def tiny_model() -> TextToImage:
    """An untrained model, always the same."""
    tokenizer = Tokenizer.train(tiny_captions())
    sizes = {"vocab": tokenizer.vocab, "context": tokenizer.context, "embed_dim": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip = CLIP(CLIPConfig(image_width=8, text_width=16, depth=1, heads=2, **sizes), EncoderSpec(32))
        spec = TextSpec(**sizes, space=space_of(clip))
        priors = {name: kind.network(kind.config(width=16, depth=1, heads=2), spec) for name, kind in PRIORS.items()}
        decoder = tiny_decoder("diffusion", asdict(spec))
        normalizer = EmbeddingNormalizer(EmbeddingSpec(16, spec.space))
    return TextToImage(clip, tokenizer, normalizer, priors, decoder, about={"name": "tiny"})


def tiny_prior(dim: int = 16, space: str = "") -> UnconditionalPrior:
    """An untrained prior that draws something, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prior = UnconditionalPrior(UnconditionalPriorConfig(width=16, depth=1), EmbeddingSpec(dim, space))
        for parameter in prior.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.3)
    return prior.eval()


def tiny_images(kind: str = "diffusion", image_channels: int = 1) -> EmbeddingToImage:
    """An untrained generator of images without captions, always the same."""
    backbone = tiny_backbone()
    space = space_of(backbone)
    spec = {"size": 8, "image_channels": image_channels, "embed_dim": 16, "space": space}
    normalizer = EmbeddingNormalizer(EmbeddingSpec(16, space))
    return EmbeddingToImage(
        backbone, normalizer, tiny_prior(16, space), tiny_decoder(kind, spec), about={"name": "photos", "data": "drawn"}
    )


def tiny_unconditional(kind: str = "diffusion") -> UnconditionalDecoder:
    """An untrained decoder without any condition, always the same."""
    spec = {"size": 8, "image_channels": 3, "embed_dim": 1}
    return UnconditionalDecoder(tiny_decoder(kind, spec), about={"name": "plain", "data": "drawn"})


def tiny_labels(
    kind: str = "cvae", image_channels: int = 1, attributes: tuple[Attribute, ...] = (CLOTHES, LACES, AGE)
) -> ClassToImage:
    """An untrained model that paints labels, always the same."""
    spec = {
        "size": 8,
        "image_channels": image_channels,
        "cardinalities": tuple(attribute.cardinality for attribute in attributes),
    }
    return ClassToImage(
        tiny_decoder(kind, spec), attributes, about={"name": "shoes", "recipe": "none", "data": "drawn"}
    )
