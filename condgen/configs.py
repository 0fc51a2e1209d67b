"""Everything that fixes a run, a tree of plain values: each field is an option of the command line and a YAML key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from condgen.data.augment import Augment
from condgen.decoders.cgan import CganObjective
from condgen.decoders.cvae import CvaeObjective
from condgen.decoders.telling import DecoderObjective
from condgen.encoders.selfsup import SelfsupObjective
from condgen.encoders.training import ClipObjective
from condgen.training.loop import FitConfig


@dataclass(frozen=True)
class Pictures:
    """What to train on.

    Args:
        size: edge of the pictures, a power of two from 16.
        scenes: how many scenes to draw, when the data is scenes.
        negatives: wrong captions for scenes: none; seen, made of combinations that training may see; all.
        image: name of the column of pictures; empty guesses.
        text: name of the column of captions, or several with commas; empty guesses.
        split: name of the column that tells the split; empty guesses.
        use: which split to train on.
        where: keep only rows with these values, e.g. `vendor=noto`.
        how: how pictures that are not square become so.
        max_bad: share of unusable rows above which training refuses.
        shift: largest random shift in pixels while the decoder trains.
        stream: read shards (.tar, .parquet) while training, in place of all into memory: where the pictures would take
            more than 2 GB there, always, or never.
        buffer: pictures of a stream to shuffle among; 0 takes as many as fit into 256 MB. Two such windows are held.
    """

    size: int = 32
    scenes: int = 80_000
    negatives: Literal["none", "seen", "all"] = "seen"
    image: str = ""
    text: str = ""
    split: str = ""
    use: str = "train"
    where: str = ""
    how: Literal["crop", "pad"] = "crop"
    max_bad: float = 0.01
    shift: int = 0
    stream: Literal["auto", "always", "never"] = "auto"
    buffer: int = 0


@dataclass(frozen=True)
class ClipShape:
    """See `encoders.clip.CLIPConfig`; vocab is the most that the tokenizer may learn, context 0 what the captions
    need."""

    embed_dim: int = 128
    image_width: int = 32
    text_width: int = 128
    depth: int = 2
    heads: int = 4
    pool: Literal["flatten", "mean", "end"] = "flatten"
    vocab: int = 4096
    context: int = 0
    image: Literal["grid", "patch", "resnet"] = "grid"
    text: Literal["words", "clip"] = "words"
    image_depth: int = 0
    patch: int = 2
    stages: int = 3
    norm: Literal["group", "batch"] = "group"
    bias: bool = False


@dataclass(frozen=True)
class PriorShape:
    """Which priors, and of what shape.

    Args:
        kinds: priors to train, `regression`, `diffusion` or both; the first is the default of the model.
        width: of their transformers.
        depth: blocks of their transformers.
        heads: of every attention.
    """

    kinds: tuple[str, ...] = ("regression", "diffusion")
    width: int = 128
    depth: int = 3
    heads: int = 4


@dataclass(frozen=True)
class DecoderShape:
    """Of a diffusion decoder, see `decoders.diffusion.DiffusionDecoderConfig`."""

    objective: Literal["x", "edm"] = "x"
    channels: tuple[int, ...] = (48, 96)
    blocks: int = 1
    depth: int = 2
    heads: int = 4
    width: int = 128
    word_depth: int = 2
    guidance: float = 2.0
    steps: int = 12
    solver: Literal["dpm++", "unipc", "euler"] = "dpm++"


@dataclass(frozen=True)
class CganShape:
    """See `decoders.cgan.CganConfig`."""

    channels: tuple[int, ...] = (32, 64)
    blocks: int = 1
    heads: int = 4
    width: int = 128
    word_depth: int = 2
    code: int = 64
    truncation: float = 1.5


@dataclass(frozen=True)
class CvaeShape:
    """See `decoders.cvae.CvaeConfig`."""

    channels: tuple[int, ...] = (32, 64)
    blocks: int = 1
    heads: int = 4
    width: int = 128
    word_depth: int = 2
    latent: int = 32
    temperature: float = 0.6


@dataclass(frozen=True)
class Painter:
    """What fixes a decoder and its training, whatever it is told.

    Args:
        kind: which decoder.
        decoder, cgan, cvae: the shape of each kind.
        decoder_objective: what it is told in training.
        cgan_objective, cvae_objective: how these kinds are trained.
        fit_decoder: how long and how fast.
    """

    kind: Literal["diffusion", "cgan", "cvae"] = "diffusion"
    decoder: DecoderShape = field(default_factory=DecoderShape)
    cgan: CganShape = field(default_factory=CganShape)
    cvae: CvaeShape = field(default_factory=CvaeShape)
    decoder_objective: DecoderObjective = field(default_factory=DecoderObjective)
    cgan_objective: CganObjective = field(default_factory=CganObjective)
    cvae_objective: CvaeObjective = field(default_factory=CvaeObjective)
    fit_decoder: FitConfig = field(default_factory=lambda: FitConfig(images=600_000, batch=32, lr=3e-3))


@dataclass(frozen=True)
class Labelled:
    """What labelled pictures to train on, see `data.labels.open_labelled`.

    Args:
        size: edge of the pictures; 0 takes them as they are.
        colours: channels, 1 or 3; 0 takes them as they are.
        image: name of the column of pictures; empty guesses.
        label: name of the column of the class; empty guesses.
        attributes: names of further columns to paint by.
        split: name of the column that tells the split; empty guesses.
        use: which split to train on.
        how: how pictures that are not square become so.
        max_bad: share of unusable rows above which training refuses.
        shift: largest random shift in pixels.
        flip: mirror every second picture.
    """

    size: int = 0
    colours: int = 0
    image: str = ""
    label: str = ""
    attributes: tuple[str, ...] = ()
    split: str = ""
    use: str = "train"
    how: Literal["crop", "pad"] = "crop"
    max_bad: float = 0.01
    shift: int = 0
    flip: bool = False


@dataclass(frozen=True)
class ByLabel(Painter):
    """Everything that fixes a run from labels to pictures.

    Args:
        data: labelled pictures: `digits`, a folder, a table; see `data.labels.open_labelled`.
        seed: of weights, order and noise.
        minutes: bound on the training; 0 sets none.
        images: bound on the pictures seen; 0 sets none.
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
class Corridor(Painter):
    """Everything that fixes a run from words to pictures.

    Args:
        data: captioned pictures, a folder, a file or shards; empty for scenes, which are drawn.
        seed: of data, weights and noise.
        minutes: bound on the training of the whole run, shared out over the stages; 0 sets none. Data, sample sheets
            and their measuring come on top.
        images: bound on the pictures that every stage sees; 0 sets none.
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
    clip: ClipShape = field(default_factory=ClipShape)
    clip_objective: ClipObjective = field(default_factory=ClipObjective)
    prior: PriorShape = field(default_factory=PriorShape)
    fit_clip: FitConfig = field(
        default_factory=lambda: FitConfig(images=150_000, batch=64, lr=1e-3, weight_decay=0.05, beta_2=0.98)
    )
    fit_prior: FitConfig = field(default_factory=lambda: FitConfig(images=150_000, batch=256, lr=1e-3))


@dataclass(frozen=True)
class Contrastive:
    """Everything that fixes a run of contrastive training, pictures and words to one space.

    Args:
        data: captioned pictures, a folder, a file or shards; or labelled ones, of which captions are made.
        seed: of weights, order and what is held out.
        minutes: bound on the training; 0 sets none.
        images: bound on the pictures seen; 0 sets none.
        label: name of the column of the class, to learn from classes where there are captions too.
        templates: sentences about a class, as 'a photo of a {}'; empty takes those that come with condgen.
        encoder: the encoder to go on with, in the place of new towers of the shape `clip`: a model or run of condgen, a
            folder of open_clip or transformers, local-dir:PATH, transformers:PATH, hf-hub:OWNER/NAME, or
            open_clip:ARCHITECTURE for new weights.
        text: transformers:PATH, a text model such as BERT to put beside the picture tower; `clip.context` bounds its
            tokens.
        start: model or run of `condgen train selfsup`, whose backbone the picture tower begins with.
        freeze: which tower stays as it is.
        val: name of the split to choose the best state by; empty holds out a twentieth of the training pictures, at
            most 5,000. A stream has nothing held out unless a split is named.
        flip: mirror every second picture; not where captions speak of left and right.
        watch: how often to judge the state so far.
        save_every: seconds between checkpoints.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    label: str = ""
    templates: tuple[str, ...] = ()
    encoder: str = ""
    text: str = ""
    start: str = ""
    freeze: Literal["none", "image", "text"] = "none"
    val: str = ""
    flip: bool = False
    watch: int = 10
    save_every: float = 60.0
    pictures: Pictures = field(default_factory=Pictures)
    clip: ClipShape = field(default_factory=ClipShape)
    clip_objective: ClipObjective = field(default_factory=ClipObjective)
    fit_clip: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True)
class AnyPictures:
    """What pictures to look at, see `data.anything.open_any`.

    Args:
        size: edge of the pictures; 0 takes them as they are.
        colours: channels, 1 or 3; 0 takes them as they are.
        image: name of the column of pictures; empty guesses.
        text: name of the column of captions, where they tell which pictures there are.
        label: name of the column of the class, which is only judged by; empty guesses.
        split: name of the column that tells the split; empty guesses.
        use: which split to train on.
        where: keep only rows with these values, e.g. `vendor=noto`.
        how: how pictures that are not square become so.
        max_bad: share of unusable rows above which training refuses.
    """

    size: int = 0
    colours: int = 0
    image: str = ""
    text: str = ""
    label: str = ""
    split: str = ""
    use: str = "train"
    where: str = ""
    how: Literal["crop", "pad"] = "crop"
    max_bad: float = 0.01


@dataclass(frozen=True)
class BackboneShape:
    """See `encoders.vision.BackboneConfig`."""

    kind: Literal["patch", "resnet"] = "resnet"
    width: int = 24
    depth: int = 1
    heads: int = 4
    patch: int = 2
    stages: int = 3
    norm: Literal["group", "batch"] = "group"


@dataclass(frozen=True)
class SelfSupervised:
    """Everything that fixes a run of self-supervised training, pictures alone to a backbone.

    Args:
        data: pictures: a folder of them, or labelled or captioned ones in any form.
        seed: of weights, order, what happens to the pictures, and what is held out.
        minutes: bound on the training; 0 sets none.
        images: bound on the pictures seen; 0 sets none.
        method: `instance`, every picture a class of its own; `simclr`, two looks at a picture find each other in the
            batch; `moco`, among those in a queue.
        watch: how often to judge the state so far.
        save_every: seconds between checkpoints.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    method: Literal["instance", "simclr", "moco"] = "simclr"
    watch: int = 10
    save_every: float = 60.0
    pictures: AnyPictures = field(default_factory=AnyPictures)
    augment: Augment = field(default_factory=Augment)
    backbone: BackboneShape = field(default_factory=BackboneShape)
    objective: SelfsupObjective = field(default_factory=SelfsupObjective)
    fit_selfsup: FitConfig = field(default_factory=FitConfig)
