"""The table: name -> data + model + training. The only file that knows every class of the corridor.

train("scenes32", "runs/scenes")                         # the model of the package
train("captions", "runs/mine", RECIPES["captions"].config("small", data="my/folder"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from condgen.configs import (
    BackboneShape,
    ByLabel,
    CganShape,
    ClipShape,
    Contrastive,
    Corridor,
    CvaeShape,
    DecoderShape,
    Labelled,
    Pictures,
    PriorShape,
    SelfSupervised,
)
from condgen.contracts import CondgenError
from condgen.decoders.cgan import CLASSIC, CganObjective
from condgen.encoders.training import ClipObjective
from condgen.nn.storage import fingerprint
from condgen.training.loop import FitConfig

if TYPE_CHECKING:
    from condgen.contracts import Encoder
    from condgen.encoders.tokenizer import Tokenizer
    from condgen.labelling import LabelToImage

FIT_CGAN = FitConfig(
    images=300_000, batch=32, lr=1e-3, optimiser="adamw", weight_decay=0.0, beta_1=0.0, beta_2=0.99, clip=10.0
)
FIT_CVAE = FitConfig(images=400_000, batch=64, lr=4e-3)

SHARES = {"clip": 0.12, "prior": 0.1, "decoder": 0.78}
"""How `minutes` is shared out over the stages."""


Config = Corridor | ByLabel | Contrastive | SelfSupervised


@dataclass(frozen=True)
class Recipe:
    """A line of the table."""

    family: str
    help: str
    base: Config
    sizes: dict[str, Callable[[Config], Config]] = field(default_factory=dict)
    needs_data: bool = False
    examples: tuple[str, ...] = ()

    def config(self, size: str | None = None, **changes) -> Config:
        """The config of this recipe in one of its sizes; `changes` replace its fields.

        Raises:
            CondgenError: the recipe has no such size.
        """
        config = self.base
        if size is not None:
            if size not in self.sizes:
                told = f"it has {', '.join(self.sizes)}" if self.sizes else "it has one size"
                raise CondgenError(f"This recipe has no size {size!r}; {told}.")
            config = self.sizes[size](config)
        return replace(config, **changes)


def _tiny(c: Corridor) -> Corridor:
    return replace(c, pictures=replace(c.pictures, size=32))


def _small(c: Corridor) -> Corridor:
    return replace(
        c,
        pictures=replace(c.pictures, size=64, shift=2),
        clip=replace(c.clip, embed_dim=192, image_width=16, text_width=192),
        decoder=replace(c.decoder, channels=(32, 64, 128), depth=2),
        fit_decoder=replace(c.fit_decoder, lr=2e-3),
    )


def _base(c: Corridor) -> Corridor:
    return replace(
        c,
        pictures=replace(c.pictures, size=64, shift=2),
        clip=replace(c.clip, embed_dim=256, image_width=64, text_width=256, depth=4, heads=8),
        prior=replace(c.prior, width=256, depth=6, heads=8),
        decoder=replace(c.decoder, channels=(64, 128, 256), blocks=2, depth=4, heads=8, width=256),
        fit_clip=replace(c.fit_clip, images=4_000_000, batch=256, lr=5e-4),
        fit_prior=replace(c.fit_prior, images=2_000_000, lr=5e-4),
        fit_decoder=replace(c.fit_decoder, images=6_000_000, batch=128, lr=1e-3),
    )


_SCENES = Corridor(
    prior=PriorShape(kinds=("diffusion", "regression")),
    decoder=DecoderShape(guidance=4.0),
    cgan=CganShape(channels=(48, 96)),
    cvae=CvaeShape(channels=(48, 96), latent=64),
    cgan_objective=CganObjective(mismatched=0.5),
    fit_prior=FitConfig(images=1_000_000, batch=256, lr=1e-3),
)
_CAPTIONS = Corridor(clip_objective=ClipObjective(negatives=0))

WORDS, LABELS, ENCODERS = "words to picture", "label to picture", "encoders"


_CLIP = Contrastive(
    clip=ClipShape(image="resnet", text="clip", image_width=32, image_depth=1),
    clip_objective=ClipObjective(negatives=0, caption=0.0),
    fit_clip=FitConfig(
        images=2_000_000, batch=128, lr=1e-3, weight_decay=0.05, beta_2=0.98, decay_from=0.0, schedule="cosine"
    ),
)


def _patch(c: Contrastive) -> Contrastive:
    """Towers that can be exported to open_clip and transformers."""
    shape = replace(c.clip, image="patch", image_width=128, text_width=128, depth=4, image_depth=0, patch=4)
    return replace(c, clip=shape)


def _patch_base(c: Contrastive) -> Contrastive:
    """The same at the size of ViT-S, for GPUs."""
    shape = ClipShape(
        image="patch", text="clip", image_width=384, text_width=384, embed_dim=384, depth=12, heads=6, patch=16,
        vocab=32_000, context=0,
    )  # fmt: skip
    fit = replace(c.fit_clip, images=100_000_000, batch=1024, lr=5e-4, optimiser="adamw")
    return replace(c, pictures=Pictures(size=224), clip=shape, fit_clip=fit)


_SELFSUP = SelfSupervised(
    fit_selfsup=FitConfig(images=5_000_000, batch=256, lr=1e-2, decay_from=0.0, schedule="cosine")
)


def _resnet18(c: SelfSupervised) -> SelfSupervised:
    """A ResNet-18 whose stem leaves small pictures whole, for GPUs."""
    fit = replace(c.fit_selfsup, images=10_000_000, batch=512)
    return replace(c, backbone=BackboneShape(width=64, depth=2, patch=1, stages=4), fit_selfsup=fit)


def _of_kind(config: Corridor | ByLabel, kind: str) -> Corridor | ByLabel:
    """The same with another decoder, and the pace that suits it."""
    pace = {"diffusion": config.fit_decoder, "cgan": FIT_CGAN, "cvae": FIT_CVAE}
    return replace(config, kind=kind, fit_decoder=pace[kind])


def _classic(c: ByLabel) -> ByLabel:
    """A GAN as it was taught."""
    fit = replace(c.fit_decoder, lr=2e-4, beta_1=0.5, beta_2=0.999, ema=0.0)
    return replace(c, cgan_objective=CLASSIC, fit_decoder=fit)


def _by_label() -> dict[str, Recipe]:
    """Every kind of decoder for every collection."""
    small = DecoderShape(channels=(32, 64), depth=1, guidance=1.5)
    fashion = ByLabel(
        decoder=small, cvae=CvaeShape(latent=128), fit_decoder=FitConfig(images=300_000, batch=64, lr=2e-3)
    )
    digits = replace(
        fashion,
        data="digits",
        decoder=replace(small, channels=(64,)),
        cgan=CganShape(channels=(64,)),
        cvae=CvaeShape(channels=(64,)),
        fit_decoder=FitConfig(images=60_000, batch=64, lr=2e-3),
    )
    cifar = replace(
        fashion,
        pictures=Labelled(flip=True, colours=3),
        decoder=DecoderShape(channels=(64, 128, 128), blocks=2, guidance=1.5),
        cgan=CganShape(channels=(64, 128, 128)),
        cvae=CvaeShape(channels=(64, 128, 128), latent=256),
    )
    told = {
        "digits": ("handwritten digits at 8 px, which come with scikit-learn", digits),
        "fashion": ("Fashion-MNIST at 28 px; --data is its folder", fashion),
        "cifar10": ("CIFAR-10 at 32 px; --data is its folder", cifar),
        "labels": ("your own labelled pictures; --data is their folder or table", fashion),
    }
    names = {"diffusion": "a diffusion model", "cgan": "a conditional GAN", "cvae": "a conditional VAE"}
    return {
        f"{data}-{kind}": Recipe(
            LABELS,
            f"{what}, by {names[kind]}",
            _of_kind(base, kind),
            sizes={"modern": lambda c: c, "classic": _classic} if kind == "cgan" else {},
            needs_data=not base.data,
        )
        for data, (what, base) in told.items()
        for kind in names
    }


RECIPES: dict[str, Recipe] = {
    "scenes32": Recipe(
        WORDS,
        "coloured shapes at 32 px, drawn here; the model of the package",
        _SCENES,
        examples=(
            "a red circle above a blue square",
            "three green triangles",
            "a large pink cross",
            "a yellow diamond left of a purple circle",
            "a small orange triangle",
            "four cyan squares",
        ),
    ),
    "nouns32": Recipe(
        WORDS,
        "pixel-art characters at 32 px; --data is the folder of the nouns",
        _CAPTIONS,
        needs_data=True,
    ),
    "captions": Recipe(
        WORDS,
        "your own captioned pictures; --data is their folder, file or shards",
        _CAPTIONS,
        sizes={"tiny": _tiny, "small": _small, "base": _base},
        needs_data=True,
    ),
    "scenes32-cgan": Recipe(
        WORDS,
        "the same by a conditional GAN; --start takes encoder and priors of another run",
        _of_kind(_SCENES, "cgan"),
    ),
    "scenes32-cvae": Recipe(
        WORDS,
        "the same by a conditional VAE; --start takes encoder and priors of another run",
        _of_kind(_SCENES, "cvae"),
    ),
    **_by_label(),
    "clip": Recipe(
        ENCODERS,
        "pictures and words to one space; --data is captioned or labelled pictures",
        _CLIP,
        sizes={"patch": _patch, "base": _patch_base},
        needs_data=True,
    ),
    "selfsup": Recipe(
        ENCODERS,
        "pictures alone to features, by --method simclr, moco or instance; --data is pictures of any kind",
        _SELFSUP,
        sizes={"resnet18": _resnet18},
        needs_data=True,
    ),
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name; `CondgenError` names those there are."""
    import difflib

    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise CondgenError(f"There is no recipe {name!r}.{hint} Recipes: {', '.join(RECIPES)}.")


def train(
    recipe: str,
    out: Path | str,
    config: Config | None = None,
    measure: Callable[[LabelToImage], dict[str, float]] | None = None,
    encoder: tuple[Encoder, Tokenizer] | None = None,
) -> Path:
    """Trains encoder, priors and decoder in order, or a decoder by labels, and exports the model; gives its folder.

    The same call again goes on from the last checkpoint.

    Args:
        recipe: a name from RECIPES.
        out: the run's folder: config, metrics, curves, sample sheets, checkpoints, and at the end `model/`.
        config: by default that of the recipe.
        measure: of recipes by label: gives numbers about the model so far, logged whenever a sample sheet is painted.
        encoder: of recipes from words to picture: a net of your own and its tokenizer, which keep the contract of
            `contracts.Encoder`, to train priors and decoder on. `TextToImage.load` wants them again.

    Raises:
        CondgenError: unknown recipe, no data, unusable data, or a folder of another run.
    """
    from condgen.corridor import CorridorRun

    chosen = find_recipe(recipe)
    config = config or chosen.config()
    if encoder:
        if not isinstance(config, Corridor):
            raise CondgenError(f"The recipe {recipe} trains no prior and no decoder on an encoder: leave it out.")
        config = replace(config, encoder=f"given, of space {fingerprint(encoder[0])}")
    if isinstance(config, Contrastive):
        from condgen.clip_training import ClipRun

        if not config.data:
            raise CondgenError(f"The recipe {recipe} needs pictures with captions or labels: give them with --data.")
        return ClipRun(recipe, chosen, Path(out), config, partial(bounded, config, chosen)).train()
    if isinstance(config, SelfSupervised):
        from condgen.selfsup_training import SelfsupRun

        if not config.data:
            raise CondgenError(f"The recipe {recipe} needs pictures: give their folder or table with --data.")
        return SelfsupRun(recipe, chosen, Path(out), config, partial(bounded, config, chosen)).train()
    if isinstance(config, ByLabel):
        from condgen.label_training import LabelRun

        if not config.data:
            raise CondgenError(f"The recipe {recipe} needs labelled pictures: give their folder or table with --data.")
        return LabelRun(recipe, chosen, Path(out), config, partial(bounded, config, chosen), measure).train()
    if chosen.needs_data and not config.data and not (config.embeds and config.stage == "prior"):
        raise CondgenError(f"The recipe {recipe} needs captioned pictures: give their folder or shards with --data.")
    if not chosen.needs_data and config.data:
        raise CondgenError(f"The recipe {recipe} draws its own data. For {config.data} use the recipe captions.")
    size = config.pictures.size
    if size < 16 or size & (size - 1):
        raise CondgenError(f"pictures.size must be a power of two from 16, got {size}.")
    return CorridorRun(recipe, chosen, Path(out), config, partial(bounded, config, chosen), encoder).train()


def bounded(config: Config, recipe: Recipe, stage: str, fit: FitConfig, parts: int = 1) -> FitConfig:
    """The fit of a stage under the run's `minutes` and `images`; `parts` trainings share the stage's time.

    Under `minutes` time alone decides and the learning rate follows it, unless a number of pictures was given too.
    """
    share = SHARES[stage] if isinstance(config, Corridor) and config.stage == "all" else 1.0
    if share < 1 and config.encoder:
        share /= 1 - SHARES["clip"]
    minutes = config.minutes * share / parts if config.minutes else fit.minutes
    images = min(fit.images, config.images) if config.images else fit.images
    usual = [recipe.base, *(size(recipe.base) for size in recipe.sizes.values())]
    if config.minutes and not config.images and fit.images in [getattr(c, f"fit_{stage}").images for c in usual]:
        images = 10**12
    return replace(fit, minutes=minutes, images=images)
