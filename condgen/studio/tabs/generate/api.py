"""The API of generation: plain values in, plain values out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from condgen.files.registry import about
from condgen.pipelines.class_to_image import ClassToImage
from condgen.studio.images.outputs import SavedImage
from condgen.studio.session import check, serve
from condgen.studio.studio import Studio, user_errors, without_folders
from condgen.studio.tabs.generate.guides import IMAGES


class GenerationApi:
    """Endpoints of the Generate tab.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    def generate(
        self, model: str, prompt: str = "", labels: dict | None = None, count: int = 1, seed: int = -1, prior: str = "",
        preset: str = "default", options: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Generates images; yields progress, and last the files as `images`, with `seeds`, `recipes` and `notes`.

        `options` are sampling options by name, also `candidates`, `size`, `negative` words, and uploads that guide the
        generation: `image` with `image_weight`, `init` with `noise`, `mask`.
        """
        with user_errors():
            opened, kept, notes = self.studio.open(model), [], []
            condition = (labels or {}) if isinstance(opened, ClassToImage) else prompt
            given = self._with_files(options, request)
            paths = [one for one in given.values() if isinstance(one, Path)] if isinstance(given, dict) else []
            with without_folders(*paths):
                asked = check(opened, condition, count, seed, prior, preset, given)
            with closing(serve(opened, asked)) as snapshots:
                for snapshot in snapshots:
                    notes += snapshot.notes
                    kept += [self.studio.keep(one, request) for one in snapshot.done[len(kept) :]]
                    if not snapshot.over:
                        yield {"progress": snapshot.fraction, "text": snapshot.text}
            recipes = [one.recipe for one in snapshot.done]
            yield {"images": self._files(kept, request), "seeds": asked.seeds, "recipes": recipes, "notes": notes}

    def _with_files(self, options: Any, request: gr.Request | None) -> Any:
        """Options whose uploads are paths."""
        if not isinstance(options, dict):
            return options
        return {
            name: self.studio.image(value, request, IMAGES[name]) if name in IMAGES and value is not None else value
            for name, value in options.items()
        }

    def _files(self, images: list[SavedImage], request: gr.Request | None) -> list[dict[str, Any]]:
        shown = [self.studio.outputs.shown(self.studio.person(request), image) for image in images]
        return [gr.FileData(path=str(path), orig_name=path.name).model_dump() for path in shown]

    def models(self) -> list[dict]:
        """The models that can be chosen: name, kind, place, size of their images in pixels, and whether they train."""
        with user_errors():
            return [
                {"name": entry.name, "kind": entry.kind.name, "task": entry.kind.task, "place": entry.place}
                | {"size": self._size(entry), "in_training": entry.unfinished}
                for entry in self.studio.library.entries().values()
            ]

    def _size(self, entry: Any) -> int | None:
        if entry.folder is None:
            return self.studio.open(entry.name).size
        size = about(entry.folder).get("size")
        return size if isinstance(size, int) else None
