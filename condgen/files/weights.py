"""Networks on disk: a folder with `config.json` and `model.safetensors`, read strictly and without pickle.

diffusers' ModelMixin is not used: it only warns about a missing tensor and leaves it on the `meta` device, and takes
longer to import than an image takes to generate.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from condgen.contracts import CondgenError, out_of_range, to_json
from condgen.files import renamed

WEIGHTS, CONFIG = "model.safetensors", "config.json"
C = TypeVar("C")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a temporary file that replaces `path` when the block ends: a crash leaves the old file or the new one.

    Raises:
        CondgenError: the disk is full or the folder cannot be written; an existing file is unchanged.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError | SafetensorError):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise CondgenError(f"{path} could not be written ({reason}). Fix that and repeat the command.") from None


def json_text(value: Any) -> str:
    """JSON as `write_json` writes it."""
    return to_json(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically."""
    with whole(path) as file:
        file.write_text(json_text(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON; `CondgenError` names the file if it is missing or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CondgenError(f"{path} cannot be read ({error.strerror}). The model folder is not complete.") from None
    except (ValueError, RecursionError) as error:
        raise CondgenError(f"{path} is not JSON ({error}). Copy or export the model again.") from None


@cache
def _types(cls: type) -> dict[str, Any]:
    """The types of a dataclass's fields; cached, since reading them compiles the annotations."""
    return get_type_hints(cls)


@cache
def configs_of(network: type[nn.Module]) -> dict[str, type]:
    """The dataclasses that a network is built from: the annotations of `config` and `spec` in its `__init__`."""
    hints = get_type_hints(network.__init__)
    return {name: hints[name] for name in ("config", "spec") if name in hints}


def described(module: nn.Module) -> dict[str, Any]:
    """Spec and config of a network as one flat dict, as stored in `config.json`."""
    return {key: value for part in reversed(_configs(module)) for key, value in dataclasses.asdict(part).items()}


def new_like(module: nn.Module) -> nn.Module:
    """A network of the same class, config and spec, with new weights."""
    return type(module)(*_configs(module))


def _configs(module: nn.Module) -> list[Any]:
    return [getattr(module, name) for name in ("config", "spec") if hasattr(module, name)]


def config_from(cls: type[C], values: dict[str, Any], path: Path) -> C:
    """Builds a config dataclass; a field that is unknown, missing, of another type or out of range is a
    `CondgenError`.
    """
    return _parsed((cls,), cls.__name__, values, path)[0]


def network_from(cls: type[nn.Module], values: dict[str, Any], path: Path) -> nn.Module:
    """Builds a network from the flat dict of its config and spec, with new weights; errors as in `config_from`."""
    return cls(*_parsed(tuple(configs_of(cls).values()), cls.__name__, values, path))


def _parsed(classes: tuple[type, ...], name: str, values: dict[str, Any], path: Path) -> list[Any]:
    """One dataclass of each class, from a flat dict of all their fields."""
    fields = [field for cls in classes for field in dataclasses.fields(cls)]
    needed = {f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING}
    unknown, missing = sorted(set(values) - {field.name for field in fields}), sorted(needed - set(values))
    if unknown or missing:
        faults = [f"unknown: {', '.join(unknown)}"] * bool(unknown) + [f"missing: {', '.join(missing)}"] * bool(missing)
        raise CondgenError(
            f"{path} does not describe a {name} ({'; '.join(faults)}). Another version of condgen may have written it."
        )
    types = {key: kind for cls in classes for key, kind in _types(cls).items()}
    for field in fields:
        if field.name not in values:
            continue
        value = values[field.name]
        typed = _is_a(types[field.name], value)
        if expected := out_of_range(field.metadata, value) if typed else f"it must be {field.type}":
            raise CondgenError(
                f"{path} does not describe a {name}: {field.name} is {str(value)[:40]!r}; {expected}. "
                "Copy or export it again."
            )
    kept = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return [cls(**{f.name: kept[f.name] for f in dataclasses.fields(cls) if f.name in kept}) for cls in classes]


def _is_a(kind: Any, value: Any) -> bool:
    """True if a value read from JSON has the annotated type: a plain type, a Literal, or a tuple of equal types."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_is_a(get_args(kind)[0], one) for one in value)
    if kind is float:  # not a huge integer, NaN or Infinity
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def save_part(module: nn.Module, folder: Path, half: bool = False) -> None:
    """Writes a network: `config.json` with its class, config and spec, and `model.safetensors`.

    Args:
        half: store floating-point weights with 16 bits; reading turns them back into 32. A tensor with numbers that 16
            bits cannot hold (above 65504) is stored with 32.
            Nothing is written if a weight is NaN or infinite (`CondgenError`).
    """
    tensors = dict(module.state_dict())
    check_finite(tensors, folder / WEIGHTS, "It is not written: use an earlier checkpoint, or train again.")
    write_json(folder / CONFIG, {"class": type(module).__name__, **described(module)})
    if half:
        halved = {name: value.half() for name, value in tensors.items() if value.is_floating_point()}
        tensors |= {name: value for name, value in halved.items() if _is_finite(value)}
    save_tensors(tensors, folder / WEIGHTS, {"sha256": tensors_hash(tensors)})


def save_tensors(tensors: dict[str, Tensor], path: Path, tags: dict[str, str] | None = None) -> None:
    """Writes a flat dict of tensors atomically; `tags` are stored in the header; errors as in `save_part`."""
    check_finite(tensors, path, "It is not written: use an earlier checkpoint, or train again.")
    with whole(path) as file:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file, tags)


class _Unfilled(TorchFunctionMode):
    """Leaves new weights unfilled and unscaled: on the meta device there is nothing to fill, and torch would import its
    compiler, for more than a second, to find that out.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "mul", "__mul__", "__rmul__"):
            return args[0] if args else kwargs["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **kwargs)


def sketch_part(cls: type[nn.Module], folder: Path) -> nn.Module:
    """Like `build_part`, on the meta device: shapes without values, which use no memory."""
    with torch.device("meta"), _Unfilled():
        return build_part(cls, folder)


def build_part(cls: type[nn.Module], folder: Path) -> nn.Module:
    """The module that `config.json` describes, without its weights.

    Raises:
        CondgenError: `config.json` is missing or damaged, or describes another class; the message names the file.
    """
    path = folder / CONFIG
    values = read_json(path)
    found = values.pop("class", None) if isinstance(values, dict) else type(values).__name__
    if renamed.class_name(found) != cls.__name__:
        raise CondgenError(f"{path} holds a {found}, expected a {cls.__name__}.")
    try:
        return network_from(cls, renamed.config(values), path)
    except (TypeError, ValueError, ArithmeticError, RuntimeError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # torch may append a traceback
        raise CondgenError(f"{path} does not describe a {cls.__name__} ({reason}). Copy or export it again.") from None


def load_part(cls: type[nn.Module], folder: Path) -> nn.Module:
    """Reads what `save_part` wrote, in evaluation mode.

    Raises:
        CondgenError: a file is missing or damaged, the part is of another class, or a tensor is missing, extra or of
            another shape or type, or holds NaN or infinite numbers; the message names the file and the tensor.
    """
    tensors = tensors_of(sketch_part(cls, folder), folder)  # a config that promises more than the file takes no memory
    module = build_part(cls, folder)
    module.load_state_dict(tensors)
    return module.eval()


def tensors_of(module: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The weights of a part, checked against its sketch; errors as in `load_part`."""
    path = folder / WEIGHTS
    tensors = read_tensors(path)
    with safe_open(path, "pt") as file:
        kept = (file.metadata() or {}).get("sha256", "")  # "": an earlier version, or another program, wrote it
    if kept and kept != tensors_hash(tensors):
        raise CondgenError(f"{path} is damaged (its checksum is another). Copy or export the model again.")
    names = {name: renamed.tensor_name(name) for name in tensors}
    if twice := [name for name, new in names.items() if new != name and new in tensors]:
        raise CondgenError(f"{path} has the same tensor twice: {twice[0]} and {names[twice[0]]}.")
    tensors = {names[name]: x for name, x in tensors.items()}
    check_weights(module, tensors, path)
    return tensors


def check_weights(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Raises `CondgenError` where tensors, read from `path`, do not match a module; see `load_part`."""
    expected = module.state_dict()
    faults = [f"missing {name}" for name in expected if name not in tensors]
    for name, found in tensors.items():
        wanted = expected.get(name)
        if wanted is None:
            faults.append(f"unexpected {name}")
        elif found.shape != wanted.shape:
            faults.append(f"{name} has shape {tuple(found.shape)}, expected {tuple(wanted.shape)}")
        elif found.dtype != wanted.dtype and not (found.is_floating_point() and wanted.is_floating_point()):
            faults.append(f"{name} has type {found.dtype}, expected {wanted.dtype}")
    if faults:
        raise CondgenError(f"{path} does not fit its config.json: {first_few(faults)}.")


def check_finite(tensors: dict[str, Tensor], path: Path, remedy: str) -> None:
    """Raises `CondgenError` where numbers of tensors are NaN, infinite or above what 32 bits can hold.

    Args:
        path: the file that the message names.
        remedy: last sentence of the message.
    """
    wrong = {name: x for name, x in tensors.items() if x.is_floating_point() and not _is_finite(x)}
    if wrong:
        counts = [f"{name} ({int((~x.float().isfinite()).sum()):,} of {x.numel():,})" for name, x in wrong.items()]
        raise CondgenError(f"{path} has numbers that are NaN or infinite in {first_few(counts)}. {remedy}")


def _is_finite(tensor: Tensor) -> bool:
    """True if all numbers are finite as float32; 20 times faster than `isfinite`."""
    return not tensor.numel() or all(limit.float().isfinite() for limit in tensor.detach().aminmax())


def first_few(texts: list[str], most: int = 5) -> str:
    """At most `most` texts, whole, and the number of the others."""
    return "; ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    Raises:
        CondgenError: the file is missing or truncated; or a tensor is complex, has 8 bits, or is not finite.
    """
    if not path.is_file():
        raise CondgenError(f"{path} is missing. The model folder is not complete; copy or export it again.")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CondgenError(
            f"{path} is damaged ({error}; {path.stat().st_size:,} bytes). Copy or export the model again."
        ) from None
    small = {name: x.is_floating_point() and x.element_size() < 2 for name, x in tensors.items()}
    if wrong := [f"{name} ({x.dtype})" for name, x in tensors.items() if x.is_complex() or small[name]]:
        raise CondgenError(f"{path} has tensors of a type that is not read: {first_few(wrong)}. Save them as float32.")
    check_finite(tensors, path, "Copy or export the model again, from a checkpoint whose numbers are finite.")
    return tensors


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_hash(tensors: dict[str, Tensor]) -> str:
    """The SHA-256 of names, types, shapes and values of tensors, in hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def fingerprint(module: nn.Module) -> str:
    """Sixteen hex digits that identify weights and config; they name the embedding space of an encoder.

    A field that was `added` does not count while it has its default value, so that older fingerprints stay valid.
    """
    if dataclasses.is_dataclass(getattr(module, "config", None)):
        defaults = {
            f.name: f.default for c in _configs(module) for f in dataclasses.fields(c) if f.metadata.get("added")
        }
        shape = {k: v for k, v in described(module).items() if k not in defaults or v != defaults[k]}
    else:  # the user's own encoder
        shape = {name: getattr(module, name) for name in ("size", "embed_dim", "vocab", "context")}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
