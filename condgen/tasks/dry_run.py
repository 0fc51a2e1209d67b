"""A config tried out before anything is written: numbers in range, and every part built and called, without weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from torch import nn

from condgen.baselines.autoencoders import Autoencoder, AutoencoderTraining
from condgen.baselines.gans import Gan, GanTraining
from condgen.configs import (
    AutoencoderTaskConfig,
    ClassToImageTaskConfig,
    ClipTaskConfig,
    GanTaskConfig,
    GeneratorConfig,
    SelfsupTaskConfig,
    TextToImageTaskConfig,
    TranslationTaskConfig,
)
from condgen.contracts import Batch, CondgenError, check_options, check_ranges
from condgen.encoders.backbones import Backbone
from condgen.encoders.clip import CLIP
from condgen.encoders.clip_objective import ClipTraining
from condgen.encoders.selfsup import SimCLRTraining
from condgen.nn.embedding_normalizer import EmbeddingNormalizer, EmbeddingSpec
from condgen.nn.specs import CondSpec, EncoderSpec, ImageSpec, TextSpec
from condgen.priors import PRIORS
from condgen.priors.transformer import PriorConfig
from condgen.tasks.build import SHAPES, new_decoder, part_of, training_of, translation_of


def dry_run(config: TextToImageTaskConfig) -> None:
    """Raises `CondgenError` for a config that cannot be trained; the message names the option."""
    _check_numbers(
        config, ("clip", "prior", "decoder"), {"clip_objective.chunk": 0, "pictures.scenes": 1, "pictures.buffer": 0}
    )
    if not config.prior.kinds or (unknown := [kind for kind in config.prior.kinds if kind not in PRIORS]):
        told = f"no prior {unknown[0]!r} to train" if config.prior.kinds else "no prior to train in an empty list"
        raise CondgenError(f"--prior.kinds: there is {told}; choose from {', '.join(PRIORS)}.")
    _try_out(_parts(config))


def dry_run_clip(config: ClipTaskConfig) -> None:
    """Raises `CondgenError` for a contrastive run that cannot be trained; the message names the option."""
    _check_numbers(config, ("clip",), {"clip_objective.chunk": 0, "clip_objective.negatives": 0, "pictures.buffer": 0})
    if not config.encoder:
        _try_out({"clip": lambda: _clip(config)})


def dry_run_selfsup(config: SelfsupTaskConfig, size: int) -> None:
    """Raises `CondgenError` for a self-supervised run that cannot be trained on such images; it names the option."""
    counts = {f"objective.{name}": low for name, low in (("dim", 1), ("hidden", 0), ("queue", 1), ("noise", 0))}
    least = counts | dict.fromkeys(("objective.chunk", "objective.temperature", "augment.jitter"), 0)
    _check_numbers(config, ("selfsup",), least)
    _check_shares(config, ("objective.key_momentum", "objective.bank_momentum", "augment.grey", "augment.erase"))
    if not 0 < config.augment.crop <= 1:
        raise CondgenError(f"--augment.crop is {config.augment.crop}; it is a share of the area, above 0 and up to 1.")

    def training() -> tuple[nn.Module, Batch]:
        backbone = Backbone(config.backbone, EncoderSpec(size))
        views = torch.zeros(2, 1, size, size)
        return SimCLRTraining(backbone, config.objective), {"view_1": views, "view_2": views}

    _try_out({"backbone": training})


def dry_run_autoencoder(config: AutoencoderTaskConfig, size: int, image_channels: int) -> None:
    """Raises `CondgenError` for an autoencoder that cannot be trained on such images; it names the option."""
    rising = ("strength", "beta", "warmup", "free_bits", "capacity", "capacity_over", "gamma")
    least = {f"objective.{name}": 0 for name in rising} | {"components": 0, "autoencoder.fixed": 1e-6}
    _check_numbers(config, ("autoencoder",), least)
    if config.objective.noise == "masking":
        _check_shares(config, ("objective.strength",))
    if config.autoencoder.binary and config.autoencoder.likelihood != "bernoulli":
        raise CondgenError("--autoencoder.binary makes pixels black or white: their likelihood is bernoulli.")

    def training() -> tuple[nn.Module, Batch]:
        net = Autoencoder(config.autoencoder, ImageSpec(size, image_channels))
        return AutoencoderTraining(net, config.objective), {"image": torch.zeros(2, image_channels, size, size)}

    _try_out({"autoencoder": training})


def dry_run_gan(config: GanTaskConfig, size: int, image_channels: int) -> None:
    """Raises `CondgenError` for a GAN that cannot be trained on such images; the message names the option."""
    counts = {"gan.code": 1, "gan.width": 1, "gan.hidden": 0, "gan.categories": 0, "gan.continuous": 0}
    least = counts | {"fit_gan.batch": 2}  # the generator norms over the batch
    least |= {f"objective.{name}": 0 for name in ("gamma", "augment_over", "category", "continuous")}
    _check_numbers(config, ("gan",), least)
    _check_shares(config, ("objective.penalised", "objective.augment"))

    def training() -> tuple[nn.Module, Batch]:
        gan = Gan(config.gan, ImageSpec(size, image_channels))
        return GanTraining(gan, config.objective), {"image": torch.zeros(2, image_channels, size, size)}

    _try_out({"gan": training})


def dry_run_labels(
    config: ClassToImageTaskConfig, size: int, image_channels: int, cardinalities: tuple[int, ...]
) -> None:
    """Raises `CondgenError` for a config that cannot be trained on such images; it names the option."""
    _check_numbers(config, ("decoder",))
    if config.weak and (config.kind != "diffusion" or not 0 < config.weak < 1):
        raise CondgenError(
            f"--weak is {config.weak}: the share of the run, below 1, after which a diffusion decoder is kept to guide "
            "by. Other decoders have no such guidance."
        )
    if size < 8:
        raise CondgenError(f"Images of {size} x {size} pixels are too small. Ask for larger ones with --pictures.size.")

    def decoder() -> tuple[nn.Module, Batch]:
        targets = torch.zeros(2, len(cardinalities))
        batch = {"image": torch.zeros(2, image_channels, size, size), "targets": targets, "has_targets": targets == 0}
        return _decoder(config, CondSpec(size, image_channels, cardinalities=cardinalities)), batch

    _try_out({SHAPES[config.kind]: decoder})


def dry_run_translation(config: TranslationTaskConfig, image_channels: tuple[int, int]) -> None:
    """Raises `CondgenError` for a translator that cannot be trained on sides of so many channels."""
    weights = ("paired.adversarial", "paired.l1", "unpaired.cycle", "unpaired.identity", "unpaired.pool")
    least = dict.fromkeys(weights, 0) | {"pictures.drawn": 1, "net.width": 1, "net.blocks": 0}
    _check_numbers(config, ("translation",), least | {"paired.critic": 1, "unpaired.critic": 1})
    if not 0 <= config.net.dropout < 1:
        raise CondgenError(f"--net.dropout is {config.net.dropout}; it is a share, from 0 to less than 1.")

    def training() -> tuple[nn.Module, Batch]:
        size = config.pictures.size
        empty = replace(config, unpaired=replace(config.unpaired, pool=0))  # what is drawn from it needs numbers
        a, b = (torch.zeros(2, channels, size, size) for channels in image_channels)
        return translation_of(empty, *image_channels), {"a": a, "b": b, "dice": torch.zeros(2, 4)}

    _try_out({"net": training})


def _try_out(parts: dict[str, Callable[[], tuple[nn.Module, Batch]]]) -> None:
    for option, build in parts.items():
        try:
            with torch.device("meta"):
                training, batch = build()
                for turn in training.turns:
                    training.loss(batch, turn)
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
            told = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise CondgenError(f"The options --{option}.* do not fit together: {told}.") from None


def _check_numbers(config, stages: tuple[str, ...], more: dict[str, float] | None = None) -> None:
    check_ranges(config)
    least = dict.fromkeys(("seed", "minutes", "images", "watch", "save_every"), 0)
    if hasattr(config.pictures, "shift"):
        least["pictures.shift"] = 0
    if isinstance(config, GeneratorConfig):
        least |= {"cgan_objective.gamma": 0, "cvae_objective.free_bits": 0, "cvae_objective.warmup": 0}
    for stage in stages:
        least |= {f"fit_{stage}.{name}": low for name, low in (("images", 1), ("minutes", 0), ("batch", 1), ("ema", 0))}
        least |= {f"fit_{stage}.{name}": 0 for name in ("warmup", "decay_from", "weight_decay")}
        least |= {f"fit_{stage}.{name}": 1e-12 for name in ("lr", "clip")}
    for option, low in (least | (more or {})).items():
        value = config
        for name in option.split("."):
            value = getattr(value, name)
        if not low <= value < 2**63:  # also refuses what is not a number
            raise CondgenError(f"--{option} is {value}; it must be at least {low:g}.")


def _check_shares(config, options: tuple[str, ...]) -> None:
    for option in options:
        part, name = option.split(".")
        if not 0 <= (value := getattr(getattr(config, part), name)) <= 1:
            raise CondgenError(f"--{option} is {value}; it is a share, from 0 to 1.")


def _parts(config) -> dict[str, Callable[[], tuple[nn.Module, Batch]]]:
    """By the name of its options: what builds a training and a batch for it."""
    n, length, vocab, edge, width = 2, 4, 8, config.pictures.size, config.clip.embed_dim
    spec = TextSpec(width, vocab, length)

    def tokens() -> torch.Tensor:
        return torch.ones(n, length, dtype=torch.long)

    def prior(kind: str) -> tuple[nn.Module, Batch]:
        part = PRIORS[kind].network(part_of(PriorConfig, config.prior), spec)
        batch = {"text_embed": torch.zeros(n, width), "image_embed": torch.zeros(n, width), "tokens": tokens()}
        ids = torch.zeros(n, 1, dtype=torch.long)
        normalizer = EmbeddingNormalizer(EmbeddingSpec(width, ""))
        return PRIORS[kind].training(part, normalizer), batch | {"text_id": ids[:, 0], "true_ids": ids}

    def decoder() -> tuple[nn.Module, Batch]:
        batch = {"image": torch.zeros(n, 3, edge, edge), "z": torch.zeros(n, width), "tokens": tokens()}
        return _decoder(config, CondSpec(edge, **asdict(spec))), batch

    own = {} if config.encoder else {"clip": lambda: _clip(config)}
    return own | {"prior": lambda: prior(config.prior.kinds[0]), SHAPES[config.kind]: decoder}


def _clip(config: TextToImageTaskConfig | ClipTaskConfig) -> tuple[nn.Module, Batch]:
    n, length, vocab, edge = 2, 4, 8, config.pictures.size
    bias = config.clip.bias or config.clip_objective.loss == "siglip"
    shape = replace(config.clip, vocab=vocab, context=length, bias=bias)
    ids = torch.zeros(n, 1, dtype=torch.long)
    batch = {"image": torch.zeros(n, 3, edge, edge), "tokens": torch.ones(n, length, dtype=torch.long)}
    training = ClipTraining(CLIP(shape, EncoderSpec(edge)), config.clip_objective)
    return training, batch | {"text_id": ids[:, 0], "true_ids": ids, "label": ids[:, 0]}


def _decoder(config, spec: CondSpec) -> nn.Module:
    """The training of a decoder whose options are all in range."""
    part = new_decoder(config, spec)
    check_options(part.sampling_options, {})
    return training_of(config, part)
