"""What is known of a model, for the panel beside the picker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from condgen.files.registry import about
from condgen.pipelines.base import Pipeline
from condgen.pipelines.class_to_image import ClassToImage, values_text
from condgen.studio.library import ModelEntry

SHEET, CARD = "sheet.png", "README.md"
MOST = 20_000
"""Characters of a card that are shown, at most."""
WORDS = 40
"""Words of a vocabulary that are shown."""


def facts_of(entry: ModelEntry, model: Pipeline) -> list[list[str]]:
    """Pairs of a name and a text: what the model does, its size, words or labels, data, licence."""
    index = about(entry.folder) if entry.folder is not None and not entry.unfinished else model.about
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.modules.items()}
    parts = ", ".join(f"{name} {_count(number)}" for name, number in counts.items() if number)
    sizes = ", ".join(map(str, getattr(model, "sizes", [model.size])))
    where = "a training that is not finished" if entry.unfinished else entry.place
    total = _count(sum(counts.values()))
    facts = [
        ["Kind", entry.kind.title],
        ["Does", entry.kind.summary],
        ["Parts", str(getattr(model, "stack", ""))],
        ["Pixels", f"{sizes}{', grey' if _channels(model) == 1 else ''}"],
        ["Parameters", f"{total} ({parts})" if len(counts) > 1 else total],
        *_knows(model),
        ["Data", str(index.get("data", ""))],
        ["Recipe", str(index.get("recipe", ""))],
        ["Licence", licence_of(card_of(model))],
        ["Place", where],
        ["Model id", model.model_id],
    ]
    return [fact for fact in facts if fact[1]]


def _knows(model: Pipeline) -> list[list[str]]:
    if isinstance(model, ClassToImage):
        return [[one.name.capitalize(), values_text(one)] for one in model.attributes]
    words = sorted(getattr(model.tokenizer, "words", ()))
    if not words:
        return []
    some = words[:: max(1, len(words) // WORDS)][:WORDS]
    return [["Words", f"{len(words):,}{', such as' if len(some) < len(words) else ':'} {', '.join(some)}"]]


def _channels(model: Pipeline) -> int:
    try:
        return model.image_channels
    except AttributeError:
        return 3


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} million" if number >= 1e5 else f"{number:,}"


def card_of(model: Pipeline) -> str:
    """The text of the model card, '' where there is none."""
    try:
        return (model.path / CARD).read_text(encoding="utf-8")[: 10 * MOST] if model.path else ""
    except (OSError, UnicodeDecodeError):
        return ""


def licence_of(card: str) -> str:
    """The licence that a model card names, '' where it names none."""
    found = re.search(r"^license:\s*(\S.*)$", card, re.M) or re.search(r"\*\*Licen[cs]e\*\*:?\s*(.+)", card)
    return found[1].strip() if found else ""


def shown_card(card: str) -> str:
    """A model card without its front matter and without the config, as Markdown."""
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.S)
    text = re.sub(r"^## Config\n.*?(?=^## |\Z)", "", text, flags=re.S | re.M)
    return text.strip()[:MOST]


def sheet_of(model: Pipeline) -> Path | None:
    """The sample sheet beside the weights of a model."""
    sheet = model.path / SHEET if model.path else None
    return sheet if sheet is not None and sheet.is_file() else None


def scores_of(index: dict[str, Any]) -> str:
    """The scores of an index as Markdown, for models without a card."""
    lines: list[str] = []

    def add(value: Any, depth: int, name: str) -> None:
        if isinstance(value, dict):
            lines.extend(["", f"{'#' * min(depth, 4)} {name}", ""] if name else [])
            for key, one in value.items():
                add(one, depth + 1, str(key).replace("_", " "))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"- {name}: {value:.4g}")

    add({"scores": index.get("metrics")} if isinstance(index.get("metrics"), dict) else {}, 1, "")
    return "\n".join(lines).strip()
