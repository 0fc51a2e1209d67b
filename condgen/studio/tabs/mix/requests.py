"""Requests of the Mix tab and of its API: what a visitor gives becomes a plan, finished images become files."""

from __future__ import annotations

import html
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError, short
from condgen.files.images import GeneratedImage, slug
from condgen.pipelines.editing.base import Editor, End, InputImage
from condgen.studio import theme
from condgen.studio.checks import number
from condgen.studio.images.outputs import SavedImage
from condgen.studio.session import check_text
from condgen.studio.studio import COMPUTE, PIXELS, Studio, user_errors
from condgen.studio.tabs.mix.editing import (
    ENDS,
    STEPS,
    Plan,
    editor_of,
    noted,
    plan_between,
    plan_changes,
    plan_components,
    plan_mixture,
    plan_reconstruction,
    plan_variations,
    read,
)
from condgen.studio.tabs.mix.running import Moment, Seen, animation, caption_of, carry_out, description_of, look


class MixRequests:
    """Reads what visitors give, and keeps what is made of it.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    def connect(self) -> None:
        """Declares the API."""
        for method in (self.vary, self.interpolate, self.mix, self.edit, self.invert, self.probe):
            gr.api(method, api_name=method.__name__, **COMPUTE)

    # Of the page ------------------------------------------------------------------------------------------------------

    def planned(self, editor: Editor, given: SimpleNamespace, request: gr.Request, each: tuple | None) -> Plan:
        """The plan for the values of the page; `each` are several values of the slider of its mode."""
        seed = number(given.seed)
        if given.mode == "between":
            return self._between(editor, given, seed, request)
        image = self.read(editor, given.image, request)
        if given.mode == "vary":
            words = given.words if editor.model.reads_text else ""
            return noted(plan_variations, editor, image, each or given.strength, words, given.count, seed)
        if given.mode == "change":
            noise = None if given.best or given.method == "text-diff" else given.level
            sentences, theta = (given.source, given.target), each or given.theta
            return noted(plan_changes, editor, image, *sentences, theta, given.method, noise, given.count, seed)
        return plan_reconstruction(editor, image, given.steps)

    def _between(self, editor: Editor, given: SimpleNamespace, seed: Any, request: gr.Request) -> Plan:
        mixture, ends, weights = given.kind == "mixture", [], []
        for k in range(ENDS if mixture else 2):
            slot, words = getattr(given, f"slot{k}"), getattr(given, f"end{k}")
            if not slot and not (isinstance(words, str) and words.strip()):
                if k < 2:
                    kinds = "an image or words" if editor.model.reads_text else "an image"
                    raise CondgenError(f"End {k + 1} is empty. Give {kinds}.")
                continue
            ends.append(self.read(editor, slot, request) if slot else check_text(f"End {k + 1}", words))
            weights.append(getattr(given, f"weight{k}"))
        if mixture:
            return noted(plan_mixture, editor, ends, weights, given.count, seed, given.noise)
        return noted(plan_between, editor, ends, given.between, seed, given.noise)

    def components(self, editor: Editor, image: InputImage, seed: Any = 0) -> Plan:
        """The plan of what a few components of the embedding of an image keep."""
        return plan_components(editor, image, seed)

    def read(self, editor: Editor, value: Any, request: gr.Request | None, what: str = "image") -> InputImage:
        """The image of a slot, or of an upload of an API client, as the model reads it."""
        return read(editor.model, self.studio.image(value, request, what))

    def cards(self, plan: Plan, done: Sequence[GeneratedImage], start: int, request: gr.Request) -> list[dict]:
        """The finished images of a plan from `start` on, written and as entries of a grid."""
        more, cards = {"pixels": plan.editor.size < PIXELS}, []
        for piece, one in list(zip(plan.pieces, done))[start:]:
            image = self.studio.keep(one, request)
            cards.append(self.studio.card(image, caption_of(piece, one), request, alt=description_of(one), **more))
        return cards

    def animated(self, plan: Plan, done: Sequence[GeneratedImage], request: gr.Request) -> dict[str, Any]:
        """The animation of a plan, written and as an entry of a grid."""
        return self.studio.card(
            self._animation(plan, done, request), "animation", request, alt="Animation of the images"
        )

    def _animation(self, plan: Plan, done: Sequence[GeneratedImage], request: gr.Request | None) -> SavedImage:
        ends = plan.pieces[0].operation.ends
        name = slug(" to ".join(end.stem if isinstance(end, InputImage) else end for end in ends))
        return self.studio.outputs.save(self.studio.person(request), f"{name}-{done[0].seed}.gif", animation(done))

    # API --------------------------------------------------------------------------------------------------------------

    def vary(
        self, model: str, image: dict | str, strength: float | None = None, prompt: str = "", count: int = 4,
        seed: int = -1, options: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Variations of an image; strength is from 0, the image itself, to 1; with a prompt they show its words."""
        with user_errors():
            editor = editor_of(self.studio.open(model))
            own = self.read(editor, image, request)
            return self._made(noted(plan_variations, editor, own, strength, prompt, count, seed, options), request)

    def interpolate(
        self, model: str, a: dict | str, b: dict | str, count: int = 8, seed: int = -1, noise: str = "slerp",
        prior: str = "", options: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Images from a to b, each a prompt or an uploaded image, and their animation; noise is slerp or fixed."""
        with user_errors():
            editor = editor_of(self.studio.open(model))
            ends = [self._end(editor, end, request) for end in (a, b)]
            return self._made(noted(plan_between, editor, ends, count, seed, noise, prior, options), request)

    def mix(
        self, model: str, ends: list, weights: list | None = None, count: int = 4, seed: int = -1, noise: str = "slerp",
        prior: str = "", options: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Images of one mixture of prompts and uploaded images with weights, by default equal ones."""
        with user_errors():
            editor = editor_of(self.studio.open(model))
            if not isinstance(ends, list) or len(ends) > 16:
                raise CondgenError(f"The ends must be a list of 2 to 16 prompts or images, got {short(ends)}.")
            own = [self._end(editor, end, request) for end in ends]
            return self._made(noted(plan_mixture, editor, own, weights, count, seed, noise, prior, options), request)

    def edit(
        self, model: str, image: dict | str, target: str, source: str = "", theta: float | None = None, seed: int = -1,
        method: str = "prior-diff", options: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Changes in an image of what differs between two sentences; methods are prior-diff and text-diff.

        The options are sampling options, and `noise`, `prior` and `count`; without noise ten are tried.
        """
        with user_errors():
            editor = editor_of(self.studio.open(model))
            own, more = self.read(editor, image, request), dict(options) if isinstance(options, dict) else {}
            noise, count = more.pop("noise", None), more.pop("count", 1)
            return self._made(
                noted(plan_changes, editor, own, source, target, theta, method, noise, count, seed, more), request
            )

    def invert(self, model: str, image: dict | str, steps: int = STEPS, request: gr.Request | None = None) -> dict:
        """The reconstruction of an image from its embedding and inverted noise, with its PSNR in dB."""
        with user_errors():
            editor = editor_of(self.studio.open(model))
            return self._made(plan_reconstruction(editor, self.read(editor, image, request), steps), request)

    def probe(
        self, model: str, image: dict | str, texts: list | None = None, components: bool = False, seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """The texts nearest to an image with their cosine similarity: yours, or captions and words of the model.

        With components, also images from a few components of its embedding.
        """
        with user_errors():
            editor = editor_of(self.studio.open(model))
            own, made = self.read(editor, image, request), {}
            given = [check_text("A text", text) for text in texts or []]
            *_, (_, seen, _) = look(editor, own, given) if editor.model.reads_text or given else [(1.0, Seen({}), ())]
            if components or not editor.model.reads_text:
                made = self._made(self.components(editor, own, seed), request)
            rows = {
                heading.lower(): [{"text": text, "cosine": round(score, 4)} for text, score in own]
                for heading, own in seen.texts.items()
            }
            return {"texts": rows} | made

    def _end(self, editor: Editor, end: Any, request: gr.Request | None) -> End:
        """A prompt, or an uploaded image."""
        return self.read(editor, end, request) if isinstance(end, dict) else check_text("An end", end)

    def _made(self, plan: Plan, request: gr.Request | None) -> dict[str, Any]:
        *_, last = carry_out(plan)
        kept = [self.studio.keep(one, request) for one in last.done]
        result = {
            "images": [self._file(image, request) for image in kept],
            "seeds": [one.seed for one in last.done],
            "recipes": [one.recipe for one in last.done],
        }
        if plan.moves:
            result["animation"] = self._file(self._animation(plan, last.done, request), request)
        return result if last.psnr is None else result | {"psnr": round(last.psnr, 2)}

    def _file(self, image: SavedImage, request: gr.Request | None) -> dict[str, Any]:
        path = self.studio.outputs.shown(self.studio.person(request), image)
        return gr.FileData(path=str(path), orig_name=path.name).model_dump()


def cards_of(plan: Plan, done: list[dict], moment: Moment) -> list[dict]:
    """The entries of a grid while a plan is carried out: finished images, the one in progress, and those to come."""
    pixels = {"pixels": plan.editor.size < PIXELS}
    waiting: list[dict] = [{"pending": True} for _ in range(len(plan.pieces) - len(done))]
    if moment.frame is not None and waiting:
        waiting[0] = {"frame": theme.data_url(moment.frame), "alt": "The image so far"} | pixels
    if plan.inverts is not None:
        original = {
            "frame": theme.data_url(plan.inverts.image()),
            "caption": "the image as the model reads it",
        } | pixels
        if moment.psnr is not None:
            done = [done[0] | {"note": f"PSNR {moment.psnr:.1f} dB"}]
        return [original, *done, *waiting]
    return done + waiting


def bars(seen: Seen) -> str:
    """The nearest texts as lists with a bar for each score; the texts are escaped."""
    parts = []
    for heading, rows in seen.texts.items():
        lines = [
            f'<li><span class="text">{html.escape(text)}</span><span class="score">{score:.3f}</span>'
            f'<i style="width: {max(0.0, min(1.0, score)):.1%}"></i></li>'
            for text, score in rows
        ]
        parts.append(f"<section><h3>{html.escape(heading)}</h3><ol>{''.join(lines)}</ol></section>")
    return f'<div class="cg-seen">{"".join(parts)}</div>'
