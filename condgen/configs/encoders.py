"""What fixes a run that ends in an encoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from condgen.configs.data import AnyPictures, Pictures
from condgen.data.batches.augment import Augment
from condgen.encoders.backbones import BackboneConfig
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.clip_objective import ClipObjective
from condgen.encoders.selfsup import SelfsupObjective
from condgen.training.trainer import FitConfig


@dataclass(frozen=True)
class ClipTaskConfig:
    """Everything that fixes a run of contrastive training, images and words to one space.

    Args:
        data: captioned images, a folder, a file or shards; or labelled ones, of which captions are made.
        seed: of weights, order and what is held out.
        minutes: bound on the training; 0 sets none.
        images: bound on the images seen; 0 sets none.
        label: name of the column of the class, to learn from classes where there are captions too.
        templates: sentences about a class, as 'a photo of a {}'; empty takes those that come with condgen.
        encoder: the encoder to go on with, in the place of new towers of the shape `clip`: a model or run of condgen, a
            folder of open_clip or transformers, local-dir:PATH, transformers:PATH, hf-hub:OWNER/NAME, or
            open_clip:ARCHITECTURE for new weights.
        text: transformers:PATH, a text model such as BERT to put beside the image tower; `clip.context` bounds its
            tokens.
        start: model or run of `condgen train selfsup`, whose backbone the image tower begins with.
        freeze: which tower stays as it is.
        val: name of the split to choose the best state by; empty holds out a twentieth of the training images, at
            most 5,000. A stream has nothing held out unless a split is named.
        flip: mirror every second image; not where captions speak of left and right.
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
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    clip_objective: ClipObjective = field(default_factory=ClipObjective)
    fit_clip: FitConfig = field(default_factory=FitConfig)


@dataclass(frozen=True)
class SelfsupTaskConfig:
    """Everything that fixes a run of self-supervised training, images alone to a backbone.

    Args:
        data: images: a folder of them, or labelled or captioned ones in any form.
        seed: of weights, order, what happens to the images, and what is held out.
        minutes: bound on the training; 0 sets none.
        images: bound on the images seen; 0 sets none.
        method: `instance`, every image a class of its own; `simclr`, two looks at an image find each other in the
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
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    objective: SelfsupObjective = field(default_factory=SelfsupObjective)
    fit_selfsup: FitConfig = field(default_factory=FitConfig)
