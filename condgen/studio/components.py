"""Custom components: a grid of images with actions, a slot for one image, a form of options, a choice of labels, and a
picker of models.

Each is a `gr.HTML` whose page code is a file in `static/`; it builds the page from `props.value` by text nodes alone,
so that no text of a visitor is read as HTML or as a template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import blocks

from condgen.contracts import SamplingOption
from condgen.data.attributes import Attribute

STATIC = Path(__file__).parent / "static"


def static(name: str) -> str:
    """The text of a file in `static/`."""
    return (STATIC / name).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Action:
    """A button under every image of a grid; a click is an event of its name with the fields of the image.

    Args:
        name: name of the event.
        label: what the button does, in a few words.
        icon: name of an icon in `static/icons.js`.
        first: shown under the image; others are in its menu.
        confirm: a question that is asked before.
    """

    name: str
    label: str
    icon: str
    first: bool = False
    confirm: str = ""


def _with_all_properties() -> None:
    """Lets an update of a custom component carry all its properties.

    Gradio sends those of the update alone, together with its mark `__type__`. A component that is not shown yet, in a
    tab that was never opened, takes them for all, and even a `gr.skip()` leaves it without any.
    """
    original = blocks.postprocess_update_dict

    def complete(block: Any, update_dict: dict, postprocess: bool = True) -> dict:
        update = original(block, update_dict, postprocess)
        return update | {"props": dict(block.props)} if isinstance(block, gr.HTML) else update

    blocks.postprocess_update_dict = complete


_with_all_properties()


def _custom(script: str, value: Any, label: str, events: Sequence[str] = (), **options: Any) -> gr.HTML:
    """A component whose page code is `static/{script}`, or several files in turn; its element is empty until then.

    Not a subclass: Gradio writes a stub file beside the source of every subclass.
    """
    code = f"const EVENTS = {json.dumps(list(events))};\n{static('icons.js')}\n" + "\n".join(
        map(static, script.split())
    )
    return gr.HTML(
        value, label=label, html_template='<div class="cg"></div>', js_on_load=code, apply_default_css=False, **options
    )


def image_grid(
    actions: Sequence[Action] = (),
    label: str = "Images",
    empty: str = "",
    fit: bool = True,
    sheet: dict[str, str] | None = None,
    selectable: bool = False,
    **options: Any,
) -> gr.HTML:
    """Images with a caption and buttons under each; a click on an image enlarges it.

    Its value is a list of cards, see `Studio.card`: `id`, `url`, `caption`; and optionally `alt`, `note` (a second
    line), `star`, `selected`, `frame` (an image so far, as a data URL), `pending` for an image to come, `heading`
    (a line above it, and above those after it that have the same), and `only` (names of the actions that it has).

    Args:
        actions: the buttons; each is an event of the component, with `id` and `card`.
        empty: what an empty grid says.
        fit: whether all images must fit the window.
        sheet: an image that an empty grid shows, {url, caption}.
        selectable: whether several can be selected; what is then done with them is the event `many`, with `action`
            (`star`, `unstar`, `download`, `delete`) and `ids`.
    """
    events, buttons = [action.name for action in actions], [asdict(action) for action in actions]
    scripts = "selection.js grid.js" if selectable else "grid.js"
    options |= {"actions": buttons, "empty": empty, "fit": fit, "sheet": sheet, "selectable": selectable}
    return _custom(scripts, [], label, [*events, "many"], **options)


def image_slot(label: str = "Image", **options: Any) -> gr.HTML:
    """A place for one image: chosen, dropped, pasted, or received from a grid; large photographs are reduced.

    Its value is None, {path, url, name} of an upload, or {id, url, name} of a kept image; `Studio.image` reads it. Make
    slots by `Page.slot`, so that they can be remembered.
    """
    return _custom("upload.js slot.js", None, label, **options)


def image_table(
    actions: Sequence[Action] = (), label: str = "Table of images", empty: str = "", **options: Any
) -> gr.HTML:
    """Images in a table with headings, which scrolls sideways in its own box; otherwise as an `image_grid`.

    The cards have their place as `row` and `column`, the headings as `row_title` and `column_title`, and as `axes`
    what rows and columns stand for. Rows without titles have no headings.
    """
    events, buttons = [action.name for action in actions], [asdict(action) for action in actions]
    return _custom(
        "table.js grid.js", [], label, events, actions=buttons, empty=empty, fit=False, table=True, **options
    )


def brush(label: str = "Brush", **options: Any) -> gr.HTML:
    """A brush over the property `image`, the value of an `image_slot`; its value is a mask, a PNG as a data URL.

    White is what was drawn; None stands for nothing.
    """
    return _custom("brush.js", None, label, image=None, **options)


def option_form(options: Sequence[dict[str, Any]] = (), label: str = "Options", **more: Any) -> gr.HTML:
    """A slider with a number for every option; its value is {name: number}.

    `options` is a list of `option_fields`; where it is given anew, values that are not among them are dropped.
    """
    return _custom("options.js", defaults(options), label, options=list(options), **more)


def defaults(options: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The value of an `option_form` in which nothing was changed."""
    return {option["name"]: option["default"] for option in options}


def option_fields(option: SamplingOption) -> dict[str, Any]:
    """A sampling option as an entry of an `option_form`."""
    label = option.name.replace("_", " ").capitalize()
    step = 1 if option.kind == "int" else 0.1
    fields = {"name": option.name, "label": label, "info": option.help, "step": step}
    return fields | {"low": option.low, "high": option.high, "default": option.default}


def label_form(
    attributes: Sequence[dict[str, Any]] = (), label: str = "Labels", each: bool = False, **more: Any
) -> gr.HTML:
    """A choice of labels and attributes; its value is {attribute: value}, without those that are not specified.

    `attributes` is a list of `attribute_fields`. With `each`, every attribute has a button "One of each", an event
    `each` with its `name`.
    """
    return _custom("labels.js", {}, label, ["each"] if each else [], attributes=list(attributes), **more)


def chips(texts: Sequence[str] = (), label: str = "Try", **more: Any) -> gr.HTML:
    """Buttons with texts, in one row; a click is the event `pick` with the `text`."""
    return _custom("chips.js", list(texts), label, ["pick"], **more)


def attribute_fields(attribute: Attribute) -> dict[str, Any]:
    """An attribute of a class-conditional model as an entry of a `label_form`."""
    if attribute.values:
        return {"name": attribute.name, "values": list(attribute.values)}
    low, high = (float(x) if abs(x) < 1e300 else None for x in (attribute.low, attribute.high))
    return {"name": attribute.name, "values": [], "low": low, "high": high, "mean": attribute.mean}


def model_picker(value: str = "", groups: Sequence[dict[str, Any]] = (), label: str = "Model", **more: Any) -> gr.HTML:
    """A list of models in groups; its value is a name. `groups` is a list of {label, models: [{name, note}]}.

    The event `refresh` comes when it is about to be opened.
    """
    return _custom("picker.js", value, label, ["input", "refresh"], groups=list(groups), **more)


def recipe_cards(groups: Sequence[dict[str, Any]], label: str = "Recipe", **more: Any) -> gr.HTML:
    """Recipes as cards in groups; its value is the name of the one that was chosen, or ''.

    `groups` is a list of {label, recipes: [{name, text, data, time}]}; a choice is the event `pick` with the `name`.
    """
    return _custom("recipes.js", "", label, ["pick"], groups=list(groups), **more)


def run_list(label: str = "Trainings", **more: Any) -> gr.HTML:
    """Training runs; its value is {runs, selected}, see `train_view.run_rows`.

    Its events `show`, `stop`, `resume` and `use` have the `name` of a run.
    """
    events = ["show", "stop", "resume", "use"]
    return _custom("runs.js", {"runs": [], "selected": ""}, label, events, **more)


def film(label: str = "Sample sheets", **more: Any) -> gr.HTML:
    """Images over time with a slider and a button that plays them; its value is a list of {url, caption}."""
    return _custom("film.js", [], label, **more)


def image_list(label: str = "Images", most: int = 16, **options: Any) -> gr.HTML:
    """A place for several images, as `image_slot` is for one; its value is a list. See `Page.image_list`."""
    return _custom("upload.js list.js", [], label, most=most, **options)


def wide_images(label: str = "Images", **options: Any) -> gr.HTML:
    """Images over the whole width, each with a caption and a link to download it; its value is a list of cards."""
    return _custom("wide.js", [], label, **options)


def latent_sliders(limit: float, extent: float, **options: Any) -> gr.HTML:
    """A large image that stays in view, and a slider for each of some latent dimensions.

    Its value is {dimension: standard deviations}. It is an event `begin` where all must be computed, once it is seen
    after `stale` has changed, and `move` with every step of a slider.

    Args:
        limit: range of a slider to each side.
        extent: how far the images beside a slider are moved.
    """
    given = {"range": limit, "extent": extent, "model": "", "stale": "", "dimensions": [], "starts": [], "image": ""}
    given |= {"file": "", "pixels": False}
    return _custom("latent.js", {}, "Latent dimensions", ["begin", "move"], **given, **options)


def sketch(label: str = "Drawing", **options: Any) -> gr.HTML:
    """A white square to draw on with a black pen; its value is a PNG as a data URL, '' for none. See `drawn`."""
    return _custom("sketch.js", "", label, **options)


def model_card(label: str = "About this model", **more: Any) -> gr.HTML:
    """A button that opens a panel about a model; its value is {name, facts, text, sheet}, see `header.Header`.

    The event `open` asks for it. Texts are text nodes, so that nothing in a card runs or is fetched.
    """
    return _custom("card.js", None, label, ["open"], **more)
