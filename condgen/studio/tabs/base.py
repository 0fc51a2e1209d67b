"""What a tab is, and what passes between tabs."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import gradio as gr

from condgen.contracts import CondgenError
from condgen.studio.components import Action, image_grid, image_list, image_slot
from condgen.studio.images.outputs import SavedImage
from condgen.studio.library import ModelEntry
from condgen.studio.studio import QUICK, Studio, user_errors

ACTIONS = (
    Action("use_seed", "Use seed", "seed", first=True),
    Action("use_all", "Use all settings", "settings"),
    Action("vary", "Vary", "vary", first=True),
    Action("mix", "Mix", "mix"),
    Action("edit", "Change with words", "edit"),
    Action("compare", "Compare", "compare"),
    Action("latent", "Latent space", "latent"),
    Action("find", "Find similar", "search"),
    Action("translate", "Translate", "translate"),
    Action("star", "Star", "star"),
    Action("delete", "Delete", "delete", confirm="Delete this image for good?"),
)
"""The actions under every generated image; a tab receives some of them, see `Page.receive`."""


@dataclass(frozen=True)
class Receiver:
    """Where an action leads.

    Args:
        tab: the tab that is opened; '' for none.
        outputs: components that `receive` updates.
        receive: (saved image, model name, request, *values of `inputs`) -> one update per output.
        inputs: components whose values `receive` needs.
    """

    tab: str
    outputs: Sequence[Any]
    receive: Callable[..., list]
    inputs: Sequence[Any] = ()


@dataclass
class Page:
    """The page while it is built.

    Args:
        studio: the server.
        model: the picker of the header.
        tabs: the container of the tabs.
        grids: grids of generated images, whose actions are connected at the end.
        slots: places for one image.
        lists: places for several.
        kept_images: components whose values are cards of kept images, such as grids.
        receivers: action -> where it leads.
        remembered: name -> component whose value the browser keeps over a reload.
        restoring: component -> (remembered value, request) -> its value, where files that it names may be gone.
        foreign: grids of images that are not kept -> names of their actions, and what gives the image of an id.
        choosing: events that have set the picker, after which its model is the chosen one.
        restored: (function, inputs, outputs) to call after that, when the page is opened.
        built: all tabs.
        fill: for the recipe of an image: its components, and (recipe, model name, request) -> their updates.
        blocks: the Gradio page.
    """

    studio: Studio
    blocks: gr.Blocks
    model: gr.HTML
    tabs: gr.Tabs
    grids: list[gr.HTML] = field(default_factory=list)
    slots: list[gr.HTML] = field(default_factory=list)
    lists: list[gr.HTML] = field(default_factory=list)
    kept_images: list[gr.HTML] = field(default_factory=list)
    receivers: dict[str, Receiver] = field(default_factory=dict)
    remembered: dict[str, Any] = field(default_factory=dict)
    choosing: list[Any] = field(default_factory=list)
    restored: list[tuple[Callable, list[Any], list[Any]]] = field(default_factory=list)
    built: list[Tab] = field(default_factory=list)
    fill: Receiver | None = None
    restoring: dict[Any, Callable[[Any, gr.Request], Any]] = field(default_factory=dict)
    foreign: dict[gr.HTML, tuple] = field(default_factory=dict)

    def grid(self, label: str = "Images", empty: str = "", without: Sequence[str] = (), **options: Any) -> gr.HTML:
        """A grid of generated images with all actions but those `without`."""
        grid = image_grid([one for one in ACTIONS if one.name not in without], label, empty, **options)
        self.grids.append(grid)
        self.kept_images.append(grid)
        return grid

    def slot(self, label: str = "Image", **options: Any) -> gr.HTML:
        """A place for one image, see `image_slot`."""
        slot = image_slot(label, **options)
        self.slots.append(slot)
        return slot

    def image_list(self, label: str = "Images", most: int = 16, **options: Any) -> gr.HTML:
        """A place for several images, see `image_list`."""
        images = image_list(label, most, **options)
        self.lists.append(images)
        return images

    def restored_cards(self, value: Any, request: gr.Request) -> list[dict[str, Any]]:
        """Of remembered cards of kept images, those that are still there."""
        cards = []
        for card in value if isinstance(value, list) else []:
            try:
                image = self.studio.outputs.get(self.studio.person(request), card.get("id"))
            except (CondgenError, AttributeError):
                continue
            cards.append(self.studio.card(image, str(card.get("caption", "")), request, **kept_fields(card)))
        return cards

    def receive(
        self, action: str, tab: str, outputs: Sequence[Any], receive: Callable[..., list], inputs: Sequence[Any] = ()
    ) -> None:
        """Registers where an action leads, see `Receiver`."""
        self.receivers[action] = Receiver(tab, outputs, receive, inputs)

    def connect_actions(self) -> None:
        """Connects the actions of all grids."""
        for grid in self.grids:
            self._connect(grid, [name for name in self.receivers if hasattr(grid, name)], self._kept)
            grid.star(self._star, grid, grid, **QUICK)
            grid.delete(self._delete, grid, grid, **QUICK)
        for grid, (names, get) in self.foreign.items():
            self._connect(grid, [name for name in names if name in self.receivers], get)

    def _connect(self, grid: gr.HTML, names: Iterable[str], get: Callable[[Any, gr.Request], SavedImage]) -> None:
        for receiver, name in ((self.receivers[name], name) for name in names):
            inputs, outputs = [self.model, *receiver.inputs], [self.tabs, *receiver.outputs]
            getattr(grid, name)(self._handler(receiver, get), inputs, outputs, **QUICK)

    def _kept(self, image_id: Any, request: gr.Request) -> SavedImage:
        return self.studio.outputs.get(self.studio.person(request), image_id)

    def foreign_grid(
        self, names: Sequence[str], get: Callable[[Any, gr.Request], SavedImage], label: str, empty: str, **options: Any
    ) -> gr.HTML:
        """A grid of images that are not kept; `get` gives the image of an id, so that other tabs receive it.

        Args:
            names: some of ACTIONS.
        """
        actions = [replace(one, first=True) for one in ACTIONS if one.name in names]
        grid = image_grid(actions, label, empty, **options)
        self.foreign[grid] = names, get
        return grid

    def _handler(self, receiver: Receiver, get: Callable[[Any, gr.Request], SavedImage]) -> Callable:
        def act(event: gr.EventData, request: gr.Request, model: str, *values: Any):
            with user_errors():
                image = get(event.id, request)
                tabs = gr.update(selected=receiver.tab) if receiver.tab else gr.skip()
                return [tabs, *receiver.receive(image, model, request, *values)]

        return act

    def _star(self, cards: list, event: gr.EventData, request: gr.Request):
        with user_errors():
            person, card = self.studio.person(request), event.card
            self.studio.outputs.star(person, event.id, not card.get("star"))
            return [one | {"star": not one.get("star")} if one.get("id") == event.id else one for one in cards]

    def _delete(self, cards: list, event: gr.EventData, request: gr.Request):
        with user_errors():
            self.studio.outputs.delete(self.studio.person(request), event.id)
            return [one for one in cards if one.get("id") != event.id]


def shown_if(visible: bool) -> dict[str, Any]:
    """The update of a container that is shown or not; its components are there in any case, unlike by `visible`."""
    return gr.update(elem_classes=[] if visible else ["cg-off"])


def kept_fields(card: dict[str, Any]) -> dict[str, Any]:
    """The fields of a card that hold after a reload."""
    return {name: card[name] for name in ("alt", "note", "pixels", "star", "before") if name in card}


class Tab:
    """One tab; a subclass builds its components in `build`, inside its tab, and connects them in `connect`.

    Args:
        studio: the server.
    """

    id: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, studio: Studio):
        self.studio = studio
        self.model_outputs: list[Any] = []
        """Components that `on_model` updates."""

    def build(self, page: Page) -> None:
        """Makes the components, inside the tab."""
        raise NotImplementedError

    def connect(self, page: Page) -> None:
        """Connects events, after all tabs were built."""

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        """One update for each of `model_outputs`, when a model was chosen and at the start."""
        return []

    def build_needs(self) -> list[Any]:
        """A sentence that says which models the tab needs, and a button that chooses one; the outputs of `needs`."""
        with gr.Column(visible=False, elem_classes=["needs"]) as box:
            text, use = gr.HTML(""), gr.Button("", size="sm", min_width=120)
        use.click(None, use, None, js="(text) => condgen.choose(text)", api_visibility="private")
        return [box, text, use]

    def needs(self, entry: ModelEntry, suits: Callable[[ModelEntry], bool], what: str) -> list[Any]:
        """Updates for `build_needs` where `entry` is chosen; `what` the tab does, "Mixing needs a model of ..."."""
        other = next((one.name for one in self.studio.library.entries().values() if suits(one)), "")
        text = f"{entry.name} {entry.kind.summary}. {what}"
        use = gr.update(value=f"Use {other}", visible=bool(other))
        return [gr.update(visible=not suits(entry)), gr.update(value=f"<p>{html.escape(text)}</p>"), use]

    def select(self, page: Page) -> Any:
        """The tab as a container."""
        return gr.Tab(self.title, id=self.id, elem_id=f"tab-{self.id}")
