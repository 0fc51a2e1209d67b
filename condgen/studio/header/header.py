"""The header of the page: the picker of models, their card, and the device."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from condgen.studio.components import model_card, model_picker
from condgen.studio.header.model_card import card_of, facts_of, scores_of, sheet_of, shown_card
from condgen.studio.studio import QUICK, Studio, user_errors


def groups_of(studio: Studio) -> list[dict[str, Any]]:
    """The models for the picker, grouped by kind."""
    groups: dict[str, list[dict[str, str]]] = {}
    for entry in studio.library.entries().values():
        note = "in training" if entry.unfinished else ""
        groups.setdefault(entry.kind.title, []).append({"name": entry.name, "note": note})
    return [{"label": title, "models": models} for title, models in groups.items()]


class Header:
    """Builds the header inside the page; `model` is the picker.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio = studio
        with gr.Row(elem_id="header"):
            gr.HTML("<h1>condgen studio</h1>", elem_id="title")
            device = html.escape(str(studio.library.device))
            gr.HTML(f'<span class="cg-badge" title="Device that computes">{device}</span>', elem_id="device")
            self.model = model_picker(studio.library.default, groups_of(studio), elem_id="model")
            self.card = model_card("About this model", elem_id="card")

    def connect(self) -> None:
        """Connects the events."""
        self.model.refresh(self._refreshed, None, self.model, **QUICK)
        self.card.open(self._about, self.model, self.card, **QUICK)

    def _refreshed(self):
        with user_errors():
            return gr.update(groups=groups_of(self.studio))

    def _about(self, name: str) -> dict[str, Any]:
        with user_errors():
            entry, model = self.studio.library.entry(name), self.studio.open(name)
            sheet, card = sheet_of(model), card_of(model)
            return {
                "name": name,
                "facts": facts_of(entry, model),
                "text": shown_card(card) if card else scores_of(model.about),
                "sheet": self.studio.url_of_copy(sheet) if sheet else "",
            }
