"""Base of all pipelines: parts on disk, device, seeds, progress, and replay of a recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor, nn

from condgen.contracts import CondgenError, Encoder, SamplingOption, short
from condgen.data.batches.base import to_uint8
from condgen.encoders.interop.load import kind_of, load_pair, save_pair, sketch_pair
from condgen.encoders.tokenizer import Tokenizer
from condgen.files import renamed
from condgen.files.images import GeneratedImage
from condgen.files.registry import INDEX, is_stranger
from condgen.files.weights import CONFIG, WEIGHTS, load_part, read_json, save_part, sketch_part, whole, write_json
from condgen.kinds import Registry
from condgen.pipelines.auto import KINDS, PipelineKind

FORMAT = 1
MAX_IMAGES = 10_000
CLIP = "clip"
"""Folder of the encoder of a pipeline that reads texts."""
GIVEN = "given"
"""Value of the index field `encoder` if the encoder is of a class unknown to condgen, and is not in the folder."""
SKIPPED = 4096
"""Numbers, at most, that are thrown away before a candidate draws its noise."""
UPSAMPLER = "upsampler_"
"""Prefix of the folders of upsamplers, before the size of the images that they make."""
BATCH_ROWS = 256
"""Images, texts or latents that go through a network at a time."""
TOKENIZER_FILES = ("tokenizer.json", "words.json", "tokenizer_config.json", "special_tokens_map.json",
                   "added_tokens.json", "vocab.json")  # fmt: skip
NOT_OPTIONS = ("prompt", "read", "labels", "seed", "prior", "size", "model", "model_id", "upsampler_id", "batch", "row")
"""Fields of a recipe that are not sampling options."""


@dataclass(frozen=True)
class Progress:
    """Progress of sampling: `step` of `steps`, and the images so far, (B, C, S, S) in [-1, 1]."""

    step: int
    steps: int
    images: Tensor


class Candidate(NamedTuple):
    """Image `index` of several with one seed, see `reranking`; it can stand in place of a seed.

    Candidate 0 draws what the seed alone draws. Torch keeps 32 bits of a seed, so that no other seed could be set aside
    for the further candidates. They draw from a generator seeded by the SHA-256 of seed and index, from which at least
    one number is thrown away first: the numbers of any seed begin at the first, so no candidate repeats another seed's.
    """

    seed: int
    index: int


def generator(seed: int | Candidate) -> torch.Generator:
    """The random generator of a seed; `CondgenError` unless the seed is an integer from 0 to 2**63 - 1."""
    seed, index = seed if isinstance(seed, Candidate) else (seed, 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise CondgenError(f"A seed must be an integer from 0 to 2**63 - 1, got {short(seed)}.")
    if index == 0:
        return torch.Generator().manual_seed(seed)
    digest = hashlib.sha256(f"{seed} {index}".encode()).digest()
    rng = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
    torch.rand(1 + int.from_bytes(digest[4:6], "big") % SKIPPED, generator=rng)
    return rng


def seeds_from(seed: int, n: int) -> range:
    """The seeds of n images, `seed`, `seed + 1`, ...; `CondgenError` if n or a seed is out of range."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MAX_IMAGES:
        raise CondgenError(f"The number of images must be an integer from 1 to {MAX_IMAGES}, got {short(n)}.")
    generator(seed)
    generator(seed + n - 1)
    return range(seed, seed + n)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, C, H, W) in [-1, 1] -> PIL images: RGB, or L where C is 1."""
    arrays = to_uint8(images).transpose(0, 2, 3, 1).copy()
    return [Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array) for array in arrays]


def numbered(frames: Iterable[Tensor], options: dict[str, float]) -> Iterator[Progress]:
    """Numbers the steps of a sampler: yields `Progress` for the images after every step."""
    steps = int(options.get("steps", 1))
    for step, images in enumerate(frames, 1):
        yield Progress(min(step, steps), steps, images)


class Pipeline:
    """A trained model: its modules and its index.

    A subclass describes its parts by `part_fields`, `part_types` and `_arguments`, and is registered in
    `pipelines.auto`.

    Args:
        main: the network whose size and device are those of the pipeline.
        modules: folder -> module; the encoder, with its tokenizer, is called CLIP.
        about: fields of `model_index.json` except those that describe the parts.
        model_id: sixteen hex digits that identify weights, configs and tokenizer.
    """

    hub_task: ClassVar[str]
    """The task on the model card, a pipeline tag of the Hugging Face hub."""
    tags: tuple[str, ...] = ()
    """Tags of the model card."""
    default_name: ClassVar[str] = "model"
    described: ClassVar[tuple[str, ...]] = ()
    """Fields of the index that describe the parts and are left out of `about`."""
    half_parts: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the names of parts that are stored with 16 bits; they compute with 32."""
    stack: str
    """The architecture, as the beginning of a sentence of the model card."""
    tokenizer: Tokenizer | None = None
    path: Path | None = None
    """The folder it was loaded from."""

    def __init__(self, main: nn.Module, modules: dict[str, nn.Module], about: dict | None = None, model_id: str = ""):
        self.main, self.modules, self.about, self.model_id = main, modules, about or {}, model_id
        for module in modules.values():
            module.eval()

    @classmethod
    def kind(cls) -> PipelineKind:
        """The registered description of this class."""
        return KINDS[cls.__name__]

    @property
    def name(self) -> str:
        return self.about.get("name", self.default_name)

    @property
    def size(self) -> int:
        """Edge S of the images in pixels."""
        return self.main.size if hasattr(self.main, "size") else self.main.spec.size

    @property
    def image_channels(self) -> int:
        """Channels of the images, 1 or 3."""
        return self.main.spec.image_channels

    @property
    def device(self) -> torch.device:
        return next(self.main.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Moves all modules to a device, in place."""
        for module in self.modules.values():
            module.to(device)
        return self

    # On disk ----------------------------------------------------------------------------------------------------------

    def part_fields(self) -> dict[str, Any]:
        """Fields of the index that describe the parts."""
        return {}

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        """Folder -> class of every part that an index names; None for the encoder.

        Raises:
            CondgenError: a field that describes the parts is damaged; the message names `path`.
        """
        raise NotImplementedError

    @classmethod
    def _arguments(cls, index: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
        """Loaded parts -> arguments of the constructor; the encoder is a pair with its tokenizer."""
        raise NotImplementedError

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        """Entries of `condgen info` in addition to index, parts and options; `modules` as from `sketch`."""
        raise NotImplementedError

    def save(self, folder: Path | str, card: str = "", half: bool = True) -> None:
        """Writes the model directory.

        Args:
            folder: created if missing.
            card: text of the model card, `README.md`.
            half: store `half_parts` with 16 bits. Encoders always keep 32, because their fingerprint names the
                embedding space that other parts were trained on.
        """
        folder, fields = Path(folder), self.part_fields()
        folder.mkdir(parents=True, exist_ok=True)
        for name, module in self.modules.items():
            if name != CLIP:
                save_part(module, folder / name, half and name.startswith(self.half_parts))
            elif fields.get("encoder") != GIVEN:
                save_pair(module, self.tokenizer, folder)
        if card:
            with whole(folder / "README.md") as file:
                file.write_text(card, encoding="utf-8")
        # last: the index makes the folder a model
        write_json(folder / INDEX, {"_class_name": type(self).__name__, "format": FORMAT} | fields | self.about)

    @classmethod
    def load(cls, folder: Path | str, encoder: tuple[Encoder, Tokenizer] | None = None) -> Self:
        """Reads a model directory, without network and without pickle.

        Args:
            encoder: a network and its tokenizer to use instead of those in the folder; required by a TextToImage that
                was trained on a custom encoder.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file.
        """
        folder = Path(folder)
        index = cls.read_index(folder)
        if encoder is None and index.get("encoder") == GIVEN:
            raise CondgenError(
                f"{folder} was trained on an encoder of your own, which is not in it: open it in Python with "
                f"{cls.__name__}.load(folder, encoder=(net, tokenizer))."
            )
        parts: dict[str, Any] = {}
        types = cls.part_types(index, folder / INDEX)
        for name, part in types.items():
            parts[name] = load_part(part, folder / name) if part else encoder or load_pair(folder)
        about = {name: v for name, v in index.items() if name not in ("_class_name", "format", *cls.described)}
        model = cls(**cls._arguments(index, parts), about=about, model_id=model_id_of(folder, types))
        model.path = folder
        return model

    @classmethod
    def sketch(cls, folder: Path, index: dict[str, Any]) -> dict[str, nn.Module]:
        """All modules of a model directory on the meta device: shapes and options without weights."""
        types = cls.part_types(index, folder / INDEX) | upsampler_types(index, folder / INDEX)
        if index.get("encoder") == GIVEN:
            types.pop(CLIP)
        return {name: sketch_part(part, folder / name) if part else sketch_pair(folder) for name, part in types.items()}

    @classmethod
    def read_index(cls, folder: Path) -> dict[str, Any]:
        """`model_index.json` of a model of this class, with present names.

        Raises:
            CondgenError: it is missing, damaged or of another class; the message names a command for the actual class.
        """
        path, expected, index = folder / INDEX, cls.__name__, read_json(folder / INDEX)
        index = renamed.index(index) if isinstance(index, dict) else {"_class_name": "list", "format": "unknown"}
        found, version = index.get("_class_name"), index.get("format")
        if found != expected or version != FORMAT:
            other = KINDS.get(found) if isinstance(found, str) and found != expected else None
            hint = f" It {other.summary}: condgen {other.command.format(folder)}." if other else ""
            message = f"a {found} of format {version}, expected a {expected} of format {FORMAT}"
            raise CondgenError(f"{path} describes {message}.{hint}")
        if not isinstance(index.get("name", ""), str):
            raise CondgenError(f"{path} names the model {short(index['name'])}, expected a text.")
        cls.part_types(index, path)
        upsampler_types(index, path)
        return index

    # Generating -------------------------------------------------------------------------------------------------------

    def replay(self, recipe: dict[str, Any]) -> GeneratedImage:
        """Generates an image again from its recipe.

        Raises:
            CondgenError: the recipe contains options or values that this model does not have.
        """
        options = {name: value for name, value in recipe.items() if name not in NOT_OPTIONS}
        known = [option.name for option in self._options_of(recipe)]
        if unknown := sorted(set(options) - set(known)):
            raise CondgenError(
                f"The recipe holds {', '.join(unknown)}, which {self.path or self.name} does not have as options; its "
                f"options are {', '.join(known) or 'none'}. Another program changed the file."
            )
        return next(iter(self._generate_from(recipe, options)))

    def _options_of(self, recipe: dict[str, Any]) -> tuple[SamplingOption, ...]:
        """The sampling options that a recipe may contain."""
        return ()

    def _generate_from(self, recipe: dict[str, Any], options: dict[str, float]) -> Iterator[GeneratedImage]:
        raise CondgenError(f"{self.name} {self.kind().summary}, and cannot replay a recipe.")

    @torch.inference_mode()
    def _in_chunks(self, compute: Callable[[Tensor], Tensor], rows: Tensor, size: int = BATCH_ROWS) -> Tensor:
        """Applies `compute` to any number of rows, `size` at a time on the device; returns float32 on the CPU."""
        return torch.cat([compute(part.to(self.device)).float().cpu() for part in rows.split(size)])


def upsampler_types(index: dict[str, Any], path: Path) -> dict[str, type[nn.Module]]:
    """Folder -> class of the upsamplers that an index names.

    They are read when they are first used, and the `model_id` does not depend on them.

    Raises:
        CondgenError: the index does not list sizes; the message names `path`.
    """
    sizes = index.get("upsamplers", [])
    if not isinstance(sizes, list) or any(type(size) is not int for size in sizes) or sizes != sorted(set(sizes)):
        raise CondgenError(f"{path} names upsamplers {short(sizes)}, expected sizes in pixels, from small to large.")
    if not sizes:
        return {}
    from condgen.decoders.upsampler import Upsampler

    return {f"{UPSAMPLER}{size}": Upsampler for size in sizes}


def network_of(registry: Registry, index: dict[str, Any], field: str, path: Path, default: str = "") -> type[nn.Module]:
    """The network class that a field of the index names; for an unknown name, `CondgenError` lists the known ones."""
    name = index.get(field, default)
    if name not in registry:
        raise CondgenError(f"{path} names the {field} {short(name)}, expected one of {', '.join(registry)}.")
    return registry[name].network


def model_id_of(folder: Path, parts: dict[str, type[nn.Module] | None]) -> str:
    """Sixteen hex digits that identify all weights, configs and the tokenizer of a model folder.

    Args:
        parts: see `Pipeline.part_types`. Other files and folders do not count.
    """
    files = dict.fromkeys(parts, (CONFIG, WEIGHTS))
    if CLIP in parts and (folder / CLIP).is_dir():
        files["tokenizer"] = TOKENIZER_FILES
        if kind_of(folder / CLIP) in ("open_clip", "transformers"):
            files[CLIP] = ()
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*")):
        own = files.get(file.parent.name, (None,))  # of a library: whatever it wrote
        counts = file.name in own if own else file.suffix in (".safetensors", ".json") and not is_stranger(file.name)
        if counts and file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
