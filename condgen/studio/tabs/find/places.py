"""Where a person can search for images: only the owner of this machine may name any of its folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError, short
from condgen.studio.images.outputs import SavedImage
from condgen.studio.studio import Studio
from condgen.studio.tabs.find.finding import DATA, FOLDER, MAX_UPLOADS, MINE, UPLOADS


class Places:
    """The places of a server, by the names that visitors see; a visitor names a place and never a path.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio, self.titles = studio, titles_of(studio.data)

    def owns(self, request: gr.Request | None) -> bool:
        """Whether this is the owner of this machine, who may search any folder."""
        return not self.studio.several and request is not None and not self.studio.person(request)

    def offered(self, request: gr.Request | None) -> list[tuple[str, str]]:
        """What this person can search, as (title, place)."""
        offered = [(title, DATA + title) for title in self.titles]
        offered += [("My images", MINE), ("Uploaded images", UPLOADS)]
        return offered + ([("A folder of this machine", FOLDER)] if self.owns(request) else [])

    def source(self, place: Any, path: Any, files: Any, request: gr.Request | None) -> str | list[SavedImage | Path]:
        """A folder, or images: those that are kept for this person, or uploaded files.

        Args:
            path: of the place FOLDER.
            files: of the place UPLOADS, see `Studio.image`.

        Raises:
            CondgenError: there is no such place for this person.
        """
        if place == MINE:
            return [one for one in self.studio.outputs.list(self.studio.person(request)) if one.path.suffix == ".png"]
        if place == UPLOADS:
            return [
                self.studio.image(file, request) for file in (files if isinstance(files, list) else [])[:MAX_UPLOADS]
            ]
        if place == FOLDER and self.owns(request):
            folder = Path(path.strip()).expanduser() if isinstance(path, str) and "\0" not in path else None
            if not folder or not path.strip() or not folder.exists():
                raise CondgenError(f"There is no folder {short(path)} on this machine.")
            return str(folder)
        title = place.removeprefix(DATA) if isinstance(place, str) else ""
        if title not in self.titles:
            raise CondgenError(f"There is no place {short(place)} to search. Choose one of the list.")
        return self.titles[title]


def titles_of(data: Sequence[Path | str]) -> dict[str, str]:
    """The folders that a server offers, by the names that visitors see."""
    titles: dict[str, str] = {}
    for path in data:
        name = Path(path).expanduser().name or str(path)
        number = next(n for n in range(1, len(data) + 2) if (name if n == 1 else f"{name} ({n})") not in titles)
        titles[name if number == 1 else f"{name} ({number})"] = str(path)
    return titles
