"""Carries out the plans of `editing` step by step, and compares images with texts, without the web page.

for moment in carry_out(plan):
    print(moment.text)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from condgen.contracts import CondgenError, short
from condgen.files.images import GeneratedImage, gif
from condgen.pipelines.base import BATCH_ROWS, to_pil
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.edit import kept
from condgen.pipelines.editing.inversion import UNKNOWN, psnr_of, unlike
from condgen.pipelines.editing.probe import MOST_TEXTS, NEAREST, known_prompts
from condgen.pipelines.generation import EmbeddingPipeline
from condgen.studio.session import BUSY, RATE, check_text, noting, time_left
from condgen.studio.tabs.mix.editing import Piece, Plan

FRAME, FRAME_MS = 192, 120
"""Edge in pixels up to which the frames of an animation are enlarged, and how long one lasts."""
MOST_LINES = 1000
"""Texts that a visitor compares with an image, at most."""


@dataclass(frozen=True)
class Moment:
    """The progress of a plan.

    Args:
        text: one line.
        fraction: the share that is done, in [0, 1].
        frame: the image so far, None where there is none.
        done: the finished images.
        notes: warnings to show now.
        psnr: in dB, at the end of a reconstruction.
    """

    text: str
    fraction: float
    frame: Image.Image | None
    done: tuple[GeneratedImage, ...]
    notes: tuple[str, ...]
    psnr: float | None = None


class _Clock:
    """Counts steps, and says when a moment is due."""

    def __init__(self, total: int):
        self.total, self.done, self.shown, self.began = max(1, total), 0, -1.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    def due(self) -> bool:
        if self.seconds - self.shown < 1 / RATE:
            return False
        self.shown = self.seconds
        return True

    def moment(self, text: str, frame=None, done=(), notes=()) -> Moment:
        fraction = min(1.0, self.done / self.total)
        return Moment(text + time_left(fraction, self.seconds), fraction, frame, tuple(done), notes)


def carry_out(plan: Plan) -> Iterator[Moment]:
    """Yields moments, the last with all images. Closing the generator stops within a step."""
    with BUSY:
        yield from _carried_out(plan)


def _carried_out(plan: Plan) -> Iterator[Moment]:
    editor, done, known, waiting = plan.editor, [], set(plan.notes), []
    every = [(one, dict(piece.options)) for piece in plan.pieces for one in piece.operations]
    pending = list(dict.fromkeys(wanted for one in every for wanted in editor.pending(*one)))
    clock = _Clock(sum(steps for _, steps in pending) + sum(editor.steps_of(*one) for one in every))
    yield clock.moment(f"image 1 of {len(plan.pieces)}", notes=plan.notes)
    for image, steps in pending:
        for step in editor.inverting(image, steps):
            clock.done += 1
            if clock.due():
                yield clock.moment(f"inverting {image.stem}, step {step} of {steps}")
    for number, piece in enumerate(plan.pieces, 1):
        made: list[GeneratedImage] = []
        for index, operation in enumerate(piece.operations, 1):
            name = f"image {number} of {len(plan.pieces)}" + (
                f", try {index} of {len(piece.tries)}" * bool(piece.tries)
            )
            for (progress, generated), notes in noting(editor.generate_steps(operation, piece.seed, **piece.options)):
                waiting += [note for note in notes if note not in known]
                known.update(waiting)
                if generated is not None:
                    made.append(generated)
                    continue
                clock.done += 1
                if clock.due() or waiting:
                    step = f", step {progress.step} of {progress.steps}" if progress.steps > 1 else ""
                    yield clock.moment(name + step, to_pil(progress.images)[0], done, tuple(waiting))
                    waiting.clear()
        done.append(kept(editor, piece.operation.image, made) if piece.tries else made[0])
        if number < len(plan.pieces):
            yield clock.moment(name, None, done, tuple(waiting))
            waiting.clear()
    yield _last(plan, tuple(done), tuple(waiting), clock.seconds)


def _last(plan: Plan, done: tuple[GeneratedImage, ...], notes: tuple[str, ...], seconds: float) -> Moment:
    if plan.inverts is not None:
        error = psnr_of(plan.editor, plan.inverts, done[0])
        notes += (unlike(plan.editor, plan.inverts, error),) if error < UNKNOWN else ()
        return Moment(f"PSNR {error:.1f} dB, {seconds:.1f} s", 1.0, None, done, notes, error)
    seeds = sorted({one.seed for one in done})
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"
    count = "1 image" if len(done) == 1 else f"{len(done)} images"
    return Moment(f"{count}, {seed}, {seconds:.1f} s", 1.0, None, done, notes)


def caption_of(piece: Piece, generated: GeneratedImage) -> str:
    """The text under an image."""
    score = "" if generated.clip_score is None else f", match {generated.clip_score:.2f}"
    return f"{piece.caption}{score}"


def description_of(generated: GeneratedImage) -> str:
    """The text of an image for people who do not see it."""
    return f"{generated.recipe['title']}, seed {generated.seed}"


def animation(images: Sequence[GeneratedImage]) -> bytes:
    """The images as a GIF that plays forwards and backwards; small ones are enlarged without smoothing."""
    factor = max(1, FRAME // max(images[0].image.size))
    frames = [one.image.convert("RGB") for one in images]
    return gif([one.resize((one.width * factor, one.height * factor), Image.Resampling.NEAREST) for one in frames],
               FRAME_MS)  # fmt: skip


# What the encoder sees ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """The texts nearest to an image, each with its cosine similarity, nearest first, by heading."""

    texts: dict[str, list[tuple[str, float]]]


def lines_of(text: Any) -> list[str]:
    """Texts that were typed, one a line; `CondgenError` for too many or too long ones."""
    if not isinstance(text, str):
        raise CondgenError(f"The texts must be text, got {short(text)}.")
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(lines) > MOST_LINES:
        raise CondgenError(f"There are {len(lines):,} texts; at most {MOST_LINES:,} are compared.")
    return [check_text("A text", line) for line in lines]


def look(editor: Editor, image: InputImage, texts: Sequence[str] = ()) -> Iterator[tuple[float, Seen | None, tuple]]:
    """Compares an image with texts, or with captions and words of the model: yields (fraction, result, warnings).

    Raises:
        CondgenError: the model reads no text.
    """
    model = editor.model
    if not model.reads_text:
        model.embed_text([])  # says why not
    with BUSY:
        own = editor.embed(image)
        groups = {"Your texts": list(texts)}
        if not texts:
            groups = {"Captions": known_prompts(model), "Words": sorted(model.tokenizer.words)[:MOST_TEXTS]}
        found, done, total = {}, 0, sum(map(len, groups.values()))
        for heading, group in groups.items():
            scores: list[float] = []
            for rows, notes in noting(_compared(model, own, group)):
                scores += rows
                done += len(rows)
                yield done / total, None, notes if texts else ()
            best = sorted(range(len(group)), key=lambda k, scores=scores: -scores[k])
            found[heading] = [(group[k], scores[k]) for k in best[: len(texts) or NEAREST + 3]]
    yield 1.0, Seen(found), ()


@torch.inference_mode()
def _compared(model: EmbeddingPipeline, own: torch.Tensor, texts: Sequence[str]) -> Iterator[list[float]]:
    for k in range(0, len(texts), BATCH_ROWS):
        yield (model.embed_text(list(texts[k : k + BATCH_ROWS])).embed @ own).tolist()
