"""What fixes a run that ends in a painter, of words or of labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from condgen.configs.data import Labelled, Pictures
from condgen.decoders.cgan import CganConfig, CganObjective
from condgen.decoders.conditioning_dropout import DecoderObjective
from condgen.decoders.cvae import CvaeConfig, CvaeObjective
from condgen.decoders.diffusion import DiffusionDecoderConfig
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.clip_objective import ClipObjective
from condgen.priors.transformer import PriorConfig
from condgen.training.trainer import FitConfig


@dataclass(frozen=True)
class PriorsConfig(PriorConfig):
    """Which priors to train, and their options.

    Args:
        kinds: priors to train, `regression`, `diffusion` or both; the first is the default of the model.
    """

    kinds: tuple[str, ...] = ("regression", "diffusion")


@dataclass(frozen=True)
class GeneratorConfig:
    """What fixes a decoder and its training, whatever it is told.

    Args:
        kind: which decoder.
        decoder, cgan, cvae: the shape of each kind.
        decoder_objective: what it is told in training.
        cgan_objective, cvae_objective: how these kinds are trained.
        fit_decoder: how long and how fast.
    """

    kind: Literal["diffusion", "cgan", "cvae"] = "diffusion"
    decoder: DiffusionDecoderConfig = field(default_factory=DiffusionDecoderConfig)
    cgan: CganConfig = field(default_factory=CganConfig)
    cvae: CvaeConfig = field(default_factory=CvaeConfig)
    decoder_objective: DecoderObjective = field(default_factory=DecoderObjective)
    cgan_objective: CganObjective = field(default_factory=CganObjective)
    cvae_objective: CvaeObjective = field(default_factory=CvaeObjective)
    fit_decoder: FitConfig = field(default_factory=lambda: FitConfig(images=600_000, batch=32, lr=3e-3))


@dataclass(frozen=True)
class ClassToImageTaskConfig(GeneratorConfig):
    """Everything that fixes a run from labels to images.

    Args:
        data: labelled images: `digits`, a folder, a table; see `data.labels.open_labelled`.
        seed: of weights, order and noise.
        minutes: bound on the training; 0 sets none.
        images: bound on the images seen; 0 sets none.
        watch: how often to paint a sample sheet.
        save_every: seconds between checkpoints.
        weak: share of the run after which the state of a diffusion decoder is kept, to guide by (autoguidance); it
            doubles the model. 0 keeps none.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    watch: int = 8
    save_every: float = 60.0
    weak: float = 0.0
    pictures: Labelled = field(default_factory=Labelled)


@dataclass(frozen=True)
class TextToImageTaskConfig(GeneratorConfig):
    """Everything that fixes a run from words to images.

    Args:
        data: captioned images, a folder, a file or shards; empty for scenes, which are drawn.
        seed: of data, weights and noise.
        minutes: bound on the training of the whole run, shared out over the stages; 0 sets none. Data, sample sheets
            and their measuring come on top.
        images: bound on the images that every stage sees; 0 sets none.
        stage: train only this one; `minutes` are then all its own.
        start: folder of another run whose encoder and priors to take over.
        encoder: the encoder to train priors and decoder on, in the place of one of its own: a model or run of condgen,
            a folder of open_clip or transformers, local-dir:PATH, transformers:PATH or hf-hub:OWNER/NAME.
        embeds: folder that `condgen embed` wrote with this encoder; priors and decoder train from it.
        watch: how often to paint a sample sheet and to measure, over the decoder's run.
        save_every: seconds between checkpoints.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    stage: Literal["all", "clip", "prior", "decoder"] = "all"
    start: str = ""
    encoder: str = ""
    embeds: str = ""
    watch: int = 8
    save_every: float = 60.0
    pictures: Pictures = field(default_factory=Pictures)
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    clip_objective: ClipObjective = field(default_factory=ClipObjective)
    prior: PriorsConfig = field(default_factory=PriorsConfig)
    fit_clip: FitConfig = field(
        default_factory=lambda: FitConfig(images=150_000, batch=64, lr=1e-3, weight_decay=0.05, beta_2=0.98)
    )
    fit_prior: FitConfig = field(default_factory=lambda: FitConfig(images=150_000, batch=256, lr=1e-3))
