"""The controls of the Mix tab: the image, and for each mode what it needs."""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.pipelines.editing.base import Editor
from condgen.studio import theme
from condgen.studio.session import MAX_IMAGES
from condgen.studio.tabs.base import Page
from condgen.studio.tabs.mix.editing import BETWEEN, ENDS, MOST_STEPS, RANDOM_SEEDS, STEPS, STRENGTH, THETAS

MODES = {
    "vary": ("Vary", "Vary"),
    "between": ("Between", "Mix"),
    "change": ("Change with words", "Change"),
    "reconstruct": ("Reconstruct", "Reconstruct"),
    "see": ("What the encoder sees", "Look"),
}
"""Name of a mode -> its title, and the text of its button."""


class MixControls:
    """Makes the controls where it is created; `given` are those whose values are sent, by name.

    Args:
        page: the page.
        mode: the choice of the mode.
        run: the buttons that begin: with the values, and with several of the slider.
    """

    def __init__(self, page: Page, mode: gr.Radio, run: tuple[gr.Button, gr.Button]):
        self.mode, self.run = mode, run
        self.given: dict[str, Any] = {"mode": mode}
        self.image = page.slot("Image", elem_id="mix-image")
        self.boxes = [self._vary(), self._between(page), self._change(), self._reconstruct(), self._see()]
        self._count_and_seed()
        self.given |= {"image": self.image}

    def _vary(self) -> gr.Column:
        with gr.Column(elem_id="mix-vary") as box:
            self.strength = gr.Slider(
                0, 1, STRENGTH, step=0.05, label="Strength",
                info="0 is about the image itself, 1 another one of its subject; with words, 1 still shows them",
            )  # fmt: skip
            self.words = gr.Textbox(
                label="Words", placeholder="optional: what every variation should show", max_lines=3,
                elem_id="mix-words",
            )  # fmt: skip
        self.given |= {"strength": self.strength, "words": self.words}
        return box

    def _between(self, page: Page) -> gr.Column:
        self.slots, self.ends, self.weights, self.end_boxes, self.word_boxes = [], [], [], [], []
        with gr.Column(visible=False, elem_id="mix-between") as box:
            kinds = [("a strip between two ends", "strip"), ("one mixture with weights", "mixture")]
            self.kind = gr.Radio(kinds, value="strip", label="Make", elem_id="mix-kind")
            with gr.Row():
                for k in range(1, ENDS + 1):
                    with gr.Column(min_width=200, visible=k <= 2) as column:
                        self.slots.append(page.slot(f"End {k}", elem_id=f"mix-end-{k}", elem_classes=["small-slot"]))
                        with gr.Column() as words:
                            self.ends.append(gr.Textbox(label=f"Words of end {k}", placeholder="or words", max_lines=3))
                        self.weights.append(gr.Slider(0, 1, 0.5, step=0.05, label=f"Weight {k}", visible=False))
                    self.end_boxes.append(column)
                    self.word_boxes.append(words)
            self.between = gr.Slider(*BETWEEN, value=8, step=1, label="Images from one end to the other")
            noises = [("slerp: an end that is an image is that image", "slerp"), ("fixed: that of the seed", "fixed")]
            self.noise = gr.Radio(noises, value="slerp", label="Noise", elem_id="mix-noise")
        self.given |= {"kind": self.kind, "between": self.between, "noise": self.noise}
        for k, parts in enumerate(zip(self.slots, self.ends, self.weights)):
            self.given |= dict(zip((f"slot{k}", f"end{k}", f"weight{k}"), parts))
        return box

    def _change(self) -> gr.Column:
        with gr.Column(visible=False, elem_id="mix-change") as box:
            self.change_note = gr.HTML("", visible=False)
            with gr.Column() as self.change_box:
                self.source = gr.Textbox(label="From", placeholder="what the image shows; may be empty", max_lines=3)
                self.target = gr.Textbox(label="To", placeholder="what it should show", max_lines=3)
                self.theta = gr.Slider(0, 1, 1.0, step=0.05, label="Theta", info="how far to go; 0 is the image")
                methods = [("difference of what a prior predicts", "prior-diff"), ("text diff of unCLIP", "text-diff")]
                self.method = gr.Radio(methods, value="prior-diff", label="Method", elem_id="mix-method")
                with gr.Column() as self.noise_box:
                    self.best = gr.Checkbox(False, label="Try ten noises and keep the best image (ten times the work)")
                    self.level = gr.Slider(
                        0.05, 1, 0.85, step=0.01, label="Noise level",
                        info="where generation begins; lower keeps more of the layout",
                    )  # fmt: skip
        self.given |= {
            "source": self.source, "target": self.target, "theta": self.theta, "method": self.method,
            "best": self.best, "level": self.level,
        }  # fmt: skip
        return box

    def _reconstruct(self) -> gr.Column:
        with gr.Column(visible=False, elem_id="mix-reconstruct") as box:
            self.reconstruct_note = gr.HTML("", visible=False)
            self.steps = gr.Slider(1, MOST_STEPS, STEPS, step=1, label="Steps", info="the more, the smaller the error")
        self.given |= {"steps": self.steps}
        return box

    def _see(self) -> gr.Column:
        with gr.Column(visible=False, elem_id="mix-see") as box:
            self.texts = gr.Textbox(
                label="Texts to compare", placeholder="one a line; none: captions and words of the model", lines=3,
                max_lines=8,
            )  # fmt: skip
            self.parts = gr.Checkbox(False, label="Also generate images from a few components of its embedding")
        self.given |= {"texts": self.texts, "parts": self.parts}
        return box

    def _count_and_seed(self) -> None:
        self.count = gr.Slider(1, MAX_IMAGES, value=4, step=1, label="Images")
        with gr.Row() as self.seed_row:
            first = str(secrets.randbelow(RANDOM_SEEDS))  # text: numbers on a page are not exact above 2**53
            self.seed = gr.Textbox(first, label="Seed", min_width=110, elem_id="mix-seed")
            self.dice = gr.Button("New seed", size="sm", min_width=80)
            self.keep = gr.Checkbox(False, label="Keep this seed", min_width=120)
        self.given |= {"count": self.count, "seed": self.seed}

    # What is shown ----------------------------------------------------------------------------------------------------

    def connect(self, opened: Any, **quick: Any) -> None:
        """Shows what the mode needs, whenever it changes and when the tab is opened."""
        shown = [
            *self.boxes, self.image, self.count, self.seed_row, *self.run, *self.end_boxes, *self.weights, self.between,
            *self.word_boxes, self.noise_box, self.level,
        ]  # fmt: skip
        asked = [self.mode, self.kind, self.method, self.best, *self.slots]
        gr.on([opened, *(one.change for one in asked)], self._layout, asked, shown, **quick)
        self.dice.click(lambda: str(secrets.randbelow(RANDOM_SEEDS)), None, self.seed, **quick)
        self.method.input(lambda method: THETAS.get(method, 1.0), self.method, self.theta, **quick)

    @staticmethod
    def _layout(mode: str, kind: str, method: str, best: bool, *slots: Any) -> list:
        mode, mixture = known_mode(mode), kind == "mixture"
        slider = mode in ("vary", "change")
        each = "Try 5 thetas" if mode == "change" else "Try 5 strengths"
        return [
            *(gr.update(visible=name == mode) for name in MODES),
            gr.update(visible=mode != "between"),
            gr.update(visible=slider or (mode == "between" and mixture)),
            gr.update(visible=slider or mode == "between"),
            gr.update(value=MODES[mode][1]),
            gr.update(value=each, visible=slider),
            *(gr.update(visible=k < 2 or mixture) for k in range(ENDS)),
            *(gr.update(visible=mixture) for _ in range(ENDS)),
            gr.update(visible=not mixture),
            *(gr.update(visible=not slot) for slot in slots),
            gr.update(visible=method == "prior-diff"),
            gr.update(visible=not best),
        ]

    @property
    def of_model(self) -> list[Any]:
        """What `offered` updates."""
        notes = [self.change_note, self.change_box, self.reconstruct_note, self.steps, self.noise]
        return [*notes, self.words, *self.ends, self.texts, self.parts]

    @staticmethod
    def offered(editor: Editor | None) -> list[Any]:
        """Updates for what a model can do; None for one that cannot be used."""
        inverts, reads = bool(editor and editor.inverts), bool(editor and editor.model.reads_text)
        name = editor.model.name if editor else ""
        lacks = ["a diffusion decoder"] * (not inverts) + ["captions that it was trained on"] * (not reads)
        needed = f"Changes need a model with {' and '.join(lacks)}; {name} has not." if lacks else ""
        inversion = "" if inverts else f"Inversion needs a model with a diffusion decoder; {name} has another one."
        words = [gr.update(visible=reads) for _ in range(ENDS + 2)]
        return [
            gr.update(value=theme.note(needed), visible=bool(needed)), gr.update(visible=not lacks),
            gr.update(value=theme.note(inversion), visible=bool(inversion)), gr.update(visible=inverts),
            gr.update(visible=inverts), *words, gr.update(visible=reads),
        ]  # fmt: skip


def known_mode(mode: Any) -> str:
    """The name of a mode; `CondgenError` for another text."""
    if mode not in MODES:
        raise CondgenError(f"There is no mode {str(mode)[:20]!r}; choose one of {', '.join(MODES)}.")
    return mode
