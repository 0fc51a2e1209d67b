"""The corridor in use: prompt -> text embedding -> image embedding -> picture, each stage callable alone.

model = load()                                   # the model that comes with the package
for painting in model.generate(["a red circle above a blue square"], n=2, seed=7):
    painting.save("out")
"""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from condgen.contracts import CondgenError, CondgenWarning, Decoder, Knob, check_knobs, short, turned
from condgen.data.views import to_uint8
from condgen.decoders.cgan import CganConfig, CganDecoder
from condgen.decoders.cvae import CvaeConfig, CvaeDecoder
from condgen.decoders.diffusion import DiffusionDecoder, DiffusionDecoderConfig
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.tokenizer import Tokenizer, words_of
from condgen.models import INDEX
from condgen.nn.conditioning import Reads, condition
from condgen.nn.normaliser import Normaliser, NormaliserConfig
from condgen.nn.storage import fingerprint, load_part, read_json, save_part, whole, write_json
from condgen.paintings import Painting
from condgen.priors.diffusion import DiffusionPrior
from condgen.priors.network import PriorConfig
from condgen.priors.regression import RegressionPrior
from condgen.words import check_prompts, clean

FORMAT = 1
MAX_PROMPT = 2000
PRIORS: dict[str, type[nn.Module]] = {"regression": RegressionPrior, "diffusion": DiffusionPrior}
DECODERS: dict[str, tuple[type[nn.Module], type[Reads]]] = {
    "diffusion": (DiffusionDecoder, DiffusionDecoderConfig),
    "cgan": (CganDecoder, CganConfig),
    "cvae": (CvaeDecoder, CvaeConfig),
}
"""By kind: the decoder, and the class of its config."""


@dataclass(frozen=True)
class Text:
    """Prompts inside: `tokens` int64 (B, L), `embed` unit vectors (B, D)."""

    tokens: Tensor
    embed: Tensor


@dataclass(frozen=True)
class Progress:
    """Where painting stands: `step` of `steps`, and the pictures so far, (B, 3, S, S) in [-1, 1]."""

    step: int
    steps: int
    images: Tensor


class TextToImage:
    """Encoder, priors and decoder of one space.

    Args:
        clip, tokenizer, normaliser, decoder: the parts.
        priors: by name; the first is the default. `none`, the text embedding fed straight in, is always there.
        about: what `model_index.json` says beyond the parts.
        model_id: sixteen hex digits that name the weights.

    Raises:
        CondgenError: a part was trained on embeddings of another encoder.
    """

    def __init__(
        self,
        clip: CLIP,
        tokenizer: Tokenizer,
        normaliser: Normaliser,
        priors: dict[str, nn.Module],
        decoder: Decoder,
        about: dict | None = None,
        model_id: str = "",
    ):
        self.clip, self.tokenizer, self.normaliser, self.decoder = clip, tokenizer, normaliser, decoder
        self.priors, self.about, self.model_id = priors, about or {}, model_id
        parts = {"normaliser": normaliser, "decoder": decoder} | {f"prior {k}": v for k, v in priors.items()}
        spaces = {name: part.config.space for name, part in parts.items()}
        if len(set(spaces.values())) > 1:
            told = ", ".join(f"{name}: {space}" for name, space in spaces.items())
            raise CondgenError(f"The parts live in different embedding spaces ({told}). Train them on one encoder.")
        if (space := next(iter(spaces.values()))) != space_of(clip):
            raise CondgenError(
                f"The encoder makes embeddings of space {space_of(clip)}, the other parts were trained on {space}. "
                "The folder mixes two models; export it again."
            )
        if tokenizer.vocab > clip.config.vocab or tokenizer.context != clip.config.context:
            raise CondgenError(
                f"The tokenizer gives {tokenizer.context} of {tokenizer.vocab} tokens, the encoder reads "
                f"{clip.config.context} of {clip.config.vocab}. The folder mixes two models; export it again."
            )
        if decoder.config.size != clip.config.size:
            raise CondgenError(
                f"The decoder paints {decoder.config.size} pixels, the encoder looks at {clip.config.size}. The folder "
                "mixes two models; export it again."
            )
        for part in (clip, normaliser, decoder, *priors.values()):
            part.eval()

    @property
    def name(self) -> str:
        return self.about.get("name", "model")

    @property
    def size(self) -> int:
        """Edge of the pictures."""
        return self.decoder.config.size

    @property
    def device(self) -> torch.device:
        return self.normaliser.mean.device

    def to(self, device: torch.device | str) -> TextToImage:
        """Moves every part."""
        for part in (self.clip, self.normaliser, self.decoder, *self.priors.values()):
            part.to(device)
        return self

    @property
    def default_prior(self) -> str:
        return next(iter(self.priors), "none")

    def knobs(self, prior: str | None = None) -> tuple[Knob, ...]:
        """Every dial of the decoder and of the chosen prior."""
        return (*self.decoder.knobs, *self._prior_knobs(prior))

    def _prior_knobs(self, prior: str | None) -> tuple[Knob, ...]:
        name = prior or self.default_prior
        if name == "none":
            return ()
        if not isinstance(name, str) or name not in self.priors:
            raise CondgenError(f"This model has no prior {short(name)}; it has {', '.join([*self.priors, 'none'])}.")
        return self.priors[name].knobs

    def _dials(self, prior: str | None, knobs: dict[str, float]) -> dict[str, float]:
        """Every dial with its value, given or default.

        Raises:
            CondgenError: a value out of range, or a dial that the model does not have, or only with another prior.
        """
        own = self.knobs(prior)
        for name in sorted(set(knobs) - {knob.name for knob in own}):
            if others := [p for p in self.priors if name in {knob.name for knob in self._prior_knobs(p)}]:
                raise CondgenError(
                    f"The dial {name} belongs to --prior {others[0]}, but the prior is {prior or self.default_prior}. "
                    "Choose that prior, or leave the dial out."
                )
        return check_knobs(own, knobs)

    @torch.inference_mode()
    def embed_text(self, prompts: list[str]) -> Text:
        """Encodes prompts; warns of words never seen and of prompts that are too long.

        Of a prompt of more than MAX_PROMPT characters, so many of its cleaned text are read.

        Raises:
            CondgenError: a prompt is empty or no text.
        """
        prompts = check_prompts(prompts)
        for prompt in prompts:
            self._warn(prompt)
        tokens = torch.from_numpy(self.tokenizer.encode([_first(prompt) for prompt in prompts])).to(self.device)
        return Text(tokens, self.clip.embed_text(tokens))

    def _warn(self, prompt: str) -> None:
        read = _first(prompt)
        cut = self.tokenizer.cut(read)
        if cut is not None or len(clean(read)) < len(clean(prompt)):
            read = cut or read
            told = read if len(read) <= 80 else "..." + read[-77:]
            warnings.warn(
                f"The prompt of {len(prompt):,} characters was cut to the first {len(read):,}, after: {told!r}",
                CondgenWarning,
                stacklevel=4,
            )
        whole = set(words_of(prompt))  # a word cut in two was not asked for
        if unseen := [word for word in self.tokenizer.unseen(read) if word in whole]:
            told = ", ".join(unseen[:10]) + (", ..." if len(unseen) > 10 else "")
            warnings.warn(f"The model never saw these words: {told}", CondgenWarning, stacklevel=4)

    @torch.inference_mode()
    def draw_embed(self, text: Text, rng: list[torch.Generator], prior: str | None = None, **knobs: float) -> Tensor:
        """Text to z, the normalised image embedding, (B, D)."""
        self._prior_knobs(prior)
        if (prior or self.default_prior) == "none":
            check_knobs((), knobs)
            return self.normaliser(text.embed)
        drawn = self.priors[prior or self.default_prior].draw(text.embed, text.tokens, rng, self.normaliser, **knobs)
        return drawn

    def draw_image(
        self, z: Tensor, text: Text, rng: list[torch.Generator], use_z=True, use_words=True, **knobs: float
    ) -> Iterator[Tensor]:
        """Image embedding and words to pictures: yields the picture so far, (B, 3, S, S) in [-1, 1]."""
        return self.decoder.sample(condition(z, text.tokens, use_z, use_words), rng, **knobs)

    def paint(
        self, prompts: list[str], seeds: list[int], prior: str | None = None, use_z=True, use_words=True, **knobs: float
    ) -> Iterator[Progress]:
        """Paints prompt i with seed i in one batch; yields after every step."""
        dials = self._dials(prior, knobs)
        of_prior = {knob.name for knob in self._prior_knobs(prior)}
        text = self.embed_text(prompts)
        rng = [generator(seed) for seed in seeds]
        z = self.draw_embed(text, rng, prior, **{k: v for k, v in dials.items() if k in of_prior})
        decoder_dials = {k: v for k, v in dials.items() if k not in of_prior}
        steps = int(dials.get("steps", 1))
        frames = self.draw_image(z, text, rng, use_z, use_words, **decoder_dials)
        for step, images in enumerate(frames, 1):
            yield Progress(min(step, steps), steps, images)

    def generate(
        self, prompts: list[str] | str, n: int = 1, seed: int = 0, prior: str | None = None, **knobs: float
    ) -> Iterator[Painting]:
        """Paints every prompt n times; picture i has seed `seed + i`.

        Each picture is painted alone, so that its bytes depend on nothing but prompt, seed, dials and weights.
        """
        prompts = check_prompts(prompts)
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= 10_000:
            raise CondgenError(f"The number of pictures must be an integer from 1 to 10000, got {short(n)}.")
        generator(seed)
        generator(seed + n - 1)
        dials = self._dials(prior, knobs)
        for prompt in prompts:
            for own in range(seed, seed + n):
                *_, (_, painting) = self.watch(prompt, own, prior, **dials)
                yield painting

    def watch(
        self, prompt: str, seed: int, prior: str | None = None, **knobs: float
    ) -> Iterator[tuple[Progress, Painting | None]]:
        """Paints one picture and yields every step; the last comes with the finished painting."""
        began = time.perf_counter()
        dials = self._dials(prior, knobs)
        for progress in self.paint([prompt], [seed], prior, **dials):
            yield progress, None
        ms = (time.perf_counter() - began) * 1000
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)
            score = self.clip_score(progress.images, self.embed_text([prompt]))[0].item()
        recipe = {
            "prompt": prompt,
            "seed": seed,
            "prior": prior or self.default_prior,
            **turned(self.knobs(prior), dials),
            "size": self.size,
            "model": self.name,
            "model_id": self.model_id,
        }
        yield progress, Painting(to_pil(progress.images)[0], recipe, score, ms)

    @torch.inference_mode()
    def clip_score(self, images: Tensor, text: Text) -> Tensor:
        """Cosine of picture i and prompt i, (B,)."""
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
        save_part(self.clip, folder / "clip")
        self.tokenizer.save(folder / "tokenizer")
        save_part(self.normaliser, folder / "normaliser")
        for name, prior in self.priors.items():
            save_part(prior, folder / f"prior_{name}", half)
        save_part(self.decoder, folder / "decoder", half)
        if card:
            with whole(folder / "README.md") as file:
                file.write_text(card, encoding="utf-8")
        own = {"priors": list(self.priors), "decoder": kind_of(self.decoder)}
        index = {"_class_name": "TextToImage", "format": FORMAT} | own | self.about
        write_json(folder / INDEX, index)

    @classmethod
    def load(cls, folder: Path | str) -> TextToImage:
        """Reads a model directory, without network and without pickle.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file.
        """
        folder = Path(folder)
        index = read_index(folder)
        parts = {name: load_part(*kinds, folder / name) for name, kinds in parts_of(index).items()}
        return cls(
            parts["clip"],
            Tokenizer.load(folder / "tokenizer"),
            parts["normaliser"],
            {name: parts[f"prior_{name}"] for name in index["priors"]},
            parts["decoder"],
            about={k: v for k, v in index.items() if k not in ("_class_name", "format", "priors", "decoder")},
            model_id=model_id_of(folder),
        )


def _first(prompt: str) -> str:
    """What is read of a prompt, however long: white space and marks that nobody reads must not crowd out its words."""
    return prompt if len(prompt) <= MAX_PROMPT else clean(prompt)[:MAX_PROMPT]


def generator(seed: int) -> torch.Generator:
    """The generator that a seed names; `CondgenError` when it is no integer from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise CondgenError(f"A seed must be an integer from 0 to 2**63 - 1, got {short(seed)}.")
    return torch.Generator().manual_seed(seed)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] -> PIL pictures."""
    return [Image.fromarray(picture) for picture in to_uint8(images).transpose(0, 2, 3, 1).copy()]


def space_of(clip: CLIP) -> str:
    """The name of an encoder's embedding space."""
    return fingerprint(clip)


def read_index(folder: Path) -> dict:
    """`model_index.json`; `CondgenError` when it is missing or not of this kind."""
    path = folder / INDEX
    index = read_json(path)
    if not isinstance(index, dict) or index.get("_class_name") != "TextToImage" or index.get("format") != FORMAT:
        named = (index.get("_class_name"), index.get("format")) if isinstance(index, dict) else ("list", "unknown")
        told = f"a {named[0]} of format {named[1]}, expected a TextToImage of format {FORMAT}"
        raise CondgenError(f"{path} describes {told}.")
    names = index.get("priors")
    if not isinstance(names, list) or not all(isinstance(name, str) and name in PRIORS for name in names):
        raise CondgenError(f"{path} names priors {short(names)}, expected some of {', '.join(PRIORS)}.")
    if (kind := index.get("decoder", "diffusion")) not in [*DECODERS]:
        raise CondgenError(f"{path} names the decoder {short(kind)}, expected one of {', '.join(DECODERS)}.")
    if not isinstance(index.get("name", ""), str):
        raise CondgenError(f"{path} names the model {short(index['name'])}, expected a text.")
    return index


def parts_of(index: dict) -> dict[str, tuple[type[nn.Module], type]]:
    """Folder -> (class, class of its config) of every part with weights that an index names."""
    priors = {f"prior_{name}": (PRIORS[name], PriorConfig) for name in index["priors"]}
    decoder = DECODERS[index.get("decoder", "diffusion")]
    return {"clip": (CLIP, CLIPConfig), "normaliser": (Normaliser, NormaliserConfig), **priors, "decoder": decoder}


def kind_of(decoder: Decoder) -> str:
    """The name of a decoder's kind in DECODERS."""
    return next(kind for kind, (cls, _) in DECODERS.items() if type(decoder) is cls)


def model_id_of(folder: Path) -> str:
    """Sixteen hex digits that name all weights, configs and the tokenizer of a model folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*")):
        if file.suffix in (".safetensors", ".json") and file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
