"""The corridor in use: prompt -> text embedding -> image embedding -> image, each stage callable alone.

model = load()                                   # the model that comes with the package
for painting in model.generate(["a red circle above a blue square"], n=2, seed=7):
    painting.save("out")
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from condgen.contracts import (
    CondgenError,
    CondgenWarning,
    Decoder,
    Encoder,
    SamplingOption,
    check_options,
    recorded_options,
    short,
)
from condgen.encoders.interop.load import can_be_saved, load_pair, reads_size, save_pair, space_of
from condgen.encoders.tokenizer import Tokenizer, words_of
from condgen.files.images import GeneratedImage
from condgen.files.registry import INDEX, WORDS
from condgen.files.weights import load_part, save_part
from condgen.nn.conditioning import condition
from condgen.nn.embedding_normalizer import EmbeddingNormalizer
from condgen.pipelines.base import (
    DECODERS,
    Progress,
    generator,
    index_of,
    kind_of,
    model_id_of,
    seeds_from,
    to_pil,
    write_index,
)
from condgen.priors.diffusion import DiffusionPrior
from condgen.priors.regression import RegressionPrior
from condgen.text import check_prompts, clean

MAX_PROMPT = 2000
GIVEN = "given"
"""In the place of an encoder that nobody but its owner can open."""
HEAD = ("priors", "decoder", "encoder")
"""What the index says of the parts."""
PRIORS: dict[str, type[nn.Module]] = {"regression": RegressionPrior, "diffusion": DiffusionPrior}


@dataclass(frozen=True)
class Text:
    """Prompts inside: `tokens` int64 (B, L), `embed` unit vectors (B, D)."""

    tokens: Tensor
    embed: Tensor


class TextToImage:
    """Encoder, priors and decoder of one space.

    Args:
        clip, tokenizer: an encoder of any kind.
        normaliser, decoder: the parts that live in its space.
        priors: by name; the first is the default. `none`, the text embedding fed straight in, is always there.
        about: what `model_index.json` says beyond the parts.
        model_id: sixteen hex digits that name the weights.

    Raises:
        CondgenError: a part was trained on embeddings of another encoder.
    """

    TASK = "text-to-image"
    TAGS = ("unclip", "text-to-image")

    path: Path | None = None
    """The folder that it was read from."""

    def __init__(
        self,
        clip: Encoder,
        tokenizer: Tokenizer,
        normalizer: EmbeddingNormalizer,
        priors: dict[str, nn.Module],
        decoder: Decoder,
        about: dict | None = None,
        model_id: str = "",
    ):
        self.clip, self.tokenizer, self.normalizer, self.decoder = clip, tokenizer, normalizer, decoder
        self.priors, self.about, self.model_id = priors, about or {}, model_id
        parts = {"normaliser": normalizer, "decoder": decoder} | {f"prior {k}": v for k, v in priors.items()}
        spaces = {name: part.spec.space for name, part in parts.items()}
        if len(set(spaces.values())) > 1:
            told = ", ".join(f"{name}: {space}" for name, space in spaces.items())
            raise CondgenError(f"The parts live in different embedding spaces ({told}). Train them on one encoder.")
        if (space := next(iter(spaces.values()))) != space_of(clip):
            raise CondgenError(
                f"The encoder makes embeddings of space {space_of(clip)}, the other parts were trained on {space}. "
                "The folder mixes two models; export it again."
            )
        if tokenizer.vocab > clip.vocab or tokenizer.context != clip.context:
            raise CondgenError(
                f"The tokenizer gives {tokenizer.context} of {tokenizer.vocab} tokens, the encoder reads "
                f"{clip.context} of {clip.vocab}. The folder mixes two models; export it again."
            )
        if not reads_size(clip, decoder.spec.size):
            raise CondgenError(
                f"The decoder paints {decoder.spec.size} pixels, the encoder looks at {clip.size}. The folder "
                "mixes two models; export it again."
            )
        for part in (clip, normalizer, decoder, *priors.values()):
            part.eval()

    @property
    def name(self) -> str:
        return self.about.get("name", "model")

    @property
    def stack(self) -> str:
        """What it is made of, for its card."""
        priors = f"priors {', '.join(self.priors)}, " if self.priors else ""
        return f"A text-to-image stack (CLIP, {priors}{kind_of(self.decoder)} decoder)"

    @property
    def size(self) -> int:
        """Edge of the images."""
        return self.decoder.spec.size

    @property
    def device(self) -> torch.device:
        return self.normalizer.mean.device

    def to(self, device: torch.device | str) -> TextToImage:
        """Moves every part."""
        for part in (self.clip, self.normalizer, self.decoder, *self.priors.values()):
            part.to(device)
        return self

    @property
    def default_prior(self) -> str:
        return next(iter(self.priors), "none")

    def sampling_options(self, prior: str | None = None) -> tuple[SamplingOption, ...]:
        """Every option of the decoder and of the chosen prior."""
        return (*self.decoder.sampling_options, *self._prior_options(prior))

    def _prior_options(self, prior: str | None) -> tuple[SamplingOption, ...]:
        name = prior or self.default_prior
        if name == "none":
            return ()
        if not isinstance(name, str) or name not in self.priors:
            raise CondgenError(f"This model has no prior {short(name)}; it has {', '.join([*self.priors, 'none'])}.")
        return self.priors[name].sampling_options

    def _resolved_options(self, prior: str | None, options: dict[str, float]) -> dict[str, float]:
        """Every option with its value, given or default.

        Raises:
            CondgenError: a value out of range, or a option that the model does not have, or only with another prior.
        """
        own = self.sampling_options(prior)
        for name in sorted(set(options) - {option.name for option in own}):
            if others := [p for p in self.priors if name in {option.name for option in self._prior_options(p)}]:
                raise CondgenError(
                    f"The option {name} belongs to --prior {others[0]}, but the prior is {prior or self.default_prior}."
                    " Choose that prior, or leave the option out."
                )
        return check_options(own, options)

    @torch.inference_mode()
    def embed_text(self, prompts: list[str]) -> Text:
        """Encodes prompts; warns of words never seen and of prompts that are too long.

        Of a prompt of more than MAX_PROMPT characters, so many of its cleaned text are read.

        Raises:
            CondgenError: a prompt is empty or no text.
        """
        prompts = check_prompts(prompts)
        for prompt in prompts:
            warn_of(self.tokenizer, prompt)
        tokens = torch.from_numpy(self.tokenizer.encode([first_of(prompt) for prompt in prompts])).to(self.device)
        return Text(tokens, self.clip.embed_text(tokens))

    @torch.inference_mode()
    def draw_embed(self, text: Text, rng: list[torch.Generator], prior: str | None = None, **options: float) -> Tensor:
        """Text to z, the normalised image embedding, (B, D)."""
        self._prior_options(prior)
        if (prior or self.default_prior) == "none":
            check_options((), options)
            return self.normalizer(text.embed)
        drawn = self.priors[prior or self.default_prior].draw(text.embed, text.tokens, rng, self.normalizer, **options)
        return drawn

    def draw_image(
        self, z: Tensor, text: Text, rng: list[torch.Generator], use_z=True, use_words=True, **options: float
    ) -> Iterator[Tensor]:
        """Image embedding and words to images: yields the image so far, (B, 3, S, S) in [-1, 1]."""
        return self.decoder.sample(condition(z, text.tokens, use_z, use_words), rng, **options)

    def generate_batch(
        self,
        prompts: list[str],
        seeds: list[int],
        prior: str | None = None,
        use_z=True,
        use_words=True,
        **options: float,
    ) -> Iterator[Progress]:
        """Paints prompt i with seed i in one batch; yields after every step."""
        options = self._resolved_options(prior, options)
        of_prior = {option.name for option in self._prior_options(prior)}
        text = self.embed_text(prompts)
        rng = [generator(seed) for seed in seeds]
        z = self.draw_embed(text, rng, prior, **{k: v for k, v in options.items() if k in of_prior})
        decoder_options = {k: v for k, v in options.items() if k not in of_prior}
        steps = int(options.get("steps", 1))
        frames = self.draw_image(z, text, rng, use_z, use_words, **decoder_options)
        for step, images in enumerate(frames, 1):
            yield Progress(min(step, steps), steps, images)

    def generate(
        self, prompts: list[str] | str, n: int = 1, seed: int = 0, prior: str | None = None, **options: float
    ) -> Iterator[GeneratedImage]:
        """Paints every prompt n times; image i has seed `seed + i`.

        Each image is painted alone, so that its bytes depend on nothing but prompt, seed, options and weights.
        """
        prompts = check_prompts(prompts)
        seeds = seeds_from(seed, n)
        options = self._resolved_options(prior, options)
        for prompt in prompts:
            for own in seeds:
                *_, (_, generated) = self.generate_steps(prompt, own, prior, **options)
                yield generated

    def generate_steps(
        self, prompt: str, seed: int, prior: str | None = None, **options: float
    ) -> Iterator[tuple[Progress, GeneratedImage | None]]:
        """Paints one image and yields every step; the last comes with the finished painting."""
        began = time.perf_counter()
        options = self._resolved_options(prior, options)
        for progress in self.generate_batch([prompt], [seed], prior, **options):
            yield progress, None
        ms = (time.perf_counter() - began) * 1000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)
            score = self.clip_score(progress.images, self.embed_text([prompt]))[0].item()
        recipe = {
            "prompt": prompt,
            "seed": seed,
            "prior": prior or self.default_prior,
            **recorded_options(self.sampling_options(prior), options),
            "size": self.size,
            "model": self.name,
            "model_id": self.model_id,
        }
        yield progress, GeneratedImage(to_pil(progress.images)[0], recipe, score, ms)

    @torch.inference_mode()
    def clip_score(self, images: Tensor, text: Text) -> Tensor:
        """Cosine of image i and prompt i, (B,)."""
        return (self.clip.embed_image(images.clamp(-1, 1)) * text.embed).sum(1)

    def save(self, folder: Path | str, card: str = "", half: bool = True) -> None:
        """Writes the model directory.

        Args:
            folder: made if missing.
            card: text of the model card, `README.md`.
            half: store priors and decoder with 16 bits; they are computed with 32. The encoder keeps its 32, for its
                fingerprint names the space that all parts live in.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = can_be_saved(self.clip)
        if own:
            save_pair(self.clip, self.tokenizer, folder)
        save_part(self.normalizer, folder / "normaliser")
        for name, prior in self.priors.items():
            save_part(prior, folder / f"prior_{name}", half)
        save_part(self.decoder, folder / "decoder", half)
        head = {"priors": list(self.priors), "decoder": kind_of(self.decoder)}
        if not own:
            head["encoder"] = GIVEN
        write_index(folder, WORDS, head, self.about, card)

    @classmethod
    def load(cls, folder: Path | str, encoder: tuple[Encoder, Tokenizer] | None = None) -> TextToImage:
        """Reads a model directory, without network and without pickle.

        Args:
            encoder: a net and its tokenizer, in the place of those in the folder; a model that was trained on an
                encoder of your own has none and needs it.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file. Or the encoder
                that is given is another one than the model was trained on; the message names both spaces.
        """
        folder = Path(folder)
        index = read_index(folder)
        parts = {name: load_part(kind, folder / name) for name, kind in parts_of(index).items()}
        if encoder is None and index.get("encoder") == GIVEN:
            raise CondgenError(
                f"{folder} was trained on an encoder of your own, which is not in it: open it in Python with "
                "TextToImage.load(folder, encoder=(net, tokenizer))."
            )
        clip, tokenizer = encoder or load_pair(folder)
        if encoder and (space := parts["normaliser"].spec.space) != space_of(clip):
            raise CondgenError(
                f"The encoder given makes embeddings of space {space_of(clip)}, {folder} was trained on {space}. Give "
                "the net with the weights that it was trained on."
            )
        model = cls(
            clip,
            tokenizer,
            parts["normaliser"],
            {name: parts[f"prior_{name}"] for name in index["priors"]},
            parts["decoder"],
            about={k: v for k, v in index.items() if k not in ("_class_name", "format", *HEAD)},
            model_id=model_id_of(folder),
        )
        model.path = folder
        return model


def first_of(prompt: str) -> str:
    """What is read of a prompt, however long: white space and marks that nobody reads must not crowd out its words."""
    return prompt if len(prompt) <= MAX_PROMPT else clean(prompt)[:MAX_PROMPT]


def warn_of(tokenizer: Tokenizer, prompt: str) -> None:
    """Warns of words that a tokenizer never saw, and of a prompt that is too long."""
    read = first_of(prompt)
    cut = tokenizer.cut(read)
    if cut is not None or len(clean(read)) < len(clean(prompt)):
        read = cut or read
        told = read if len(read) <= 80 else "..." + read[-77:]
        warnings.warn(
            f"The prompt of {len(prompt):,} characters was cut to the first {len(read):,}, after: {told!r}",
            CondgenWarning,
            stacklevel=4,
        )
    whole = set(words_of(prompt))  # a word cut in two was not asked for
    if unseen := [word for word in tokenizer.unseen(read) if word in whole]:
        told = ", ".join(unseen[:10]) + (", ..." if len(unseen) > 10 else "")
        warnings.warn(f"The model never saw these words: {told}", CondgenWarning, stacklevel=4)


def read_index(folder: Path) -> dict:
    """`model_index.json`; `CondgenError` when it is missing or not of this kind."""
    index = index_of(folder, WORDS)
    names = index.get("priors")
    if not isinstance(names, list) or not all(isinstance(name, str) and name in PRIORS for name in names):
        raise CondgenError(f"{folder / INDEX} names priors {short(names)}, expected some of {', '.join(PRIORS)}.")
    return index


def parts_of(index: dict) -> dict[str, type[nn.Module]]:
    """Folder -> class of every part with weights that an index names, but for the encoder."""
    priors = {f"prior_{name}": PRIORS[name] for name in index["priors"]}
    decoder = DECODERS[index.get("decoder", "diffusion")]
    return {"normaliser": EmbeddingNormalizer, **priors, "decoder": decoder}
