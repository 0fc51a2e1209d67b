"""Models of runs that are not finished: the weights of the last checkpoint, as the finished run would export them.

RUN/parts/unfinished/     its frame, see `RunFolder.keep_frame`
RUN/unfinished/           the model of the last checkpoint, written on request
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

from condgen.contracts import CondgenError, CondgenWarning
from condgen.files.registry import FRAME, RUN_CONFIG, about
from condgen.files.weights import check_weights, read_json
from condgen.pipelines.auto import load_folder
from condgen.pipelines.base import Pipeline
from condgen.training import checkpoint
from condgen.training.run_folder import FRAME_FACTS

MODEL = "unfinished"
"""Folder of the model in the run folder."""


def model_of(run: Path) -> Path:
    """The folder of the model of a run's last checkpoint, with the running mean of the weights where there is one.

    Raises:
        CondgenError: the run has no checkpoint of the stage that makes its model, or another version wrote it.
    """
    if not (run / FRAME / FRAME_FACTS).is_file():
        raise CondgenError(f"{run} is a run that is not finished{_reason(run)}")
    frame = read_json(run / FRAME / FRAME_FACTS)
    stage = frame["stage"]
    place = newest(checkpoint.folder_of(run, stage))
    if place is None:
        raise CondgenError(
            f"{run} is a run that is not finished, and its {stage} has no checkpoint yet. Repeat its training command "
            f"to go on; checkpoints are written every minute (--save_every)."
        )
    state = checkpoint.read_state(place)
    facts = {"stage": stage, "checkpoint": place.name, "images": state["images"], "minutes": state["seconds"] / 60}
    folder = run / MODEL
    text = f"{stage}, {state['images']:,} images, {facts['minutes']:.1f} minutes"
    warnings.warn(f"{run} is not finished: this is its last checkpoint ({text}).", CondgenWarning, stacklevel=3)
    if about(folder).get("unfinished") == facts:
        return folder
    model = load_folder(run / FRAME)
    _ = getattr(model, "upsamplers", None)  # they are read when they are first used
    tensors = checkpoint.load_tensors(place)
    weights = tensors["model"] | tensors.get("ema", {})
    for part, name in frame["parts"].items():
        own = {key.removeprefix(f"{name}."): x for key, x in weights.items() if key.startswith(f"{name}.")}
        check_weights(model.modules[part], own, place)
        model.modules[part].load_state_dict(own)
    model.about = model.about | {"unfinished": facts}
    _write(model, folder)
    return folder


def _write(model: Pipeline, folder: Path) -> None:
    aside = folder.with_name(f"{folder.name}.tmp")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        model.save(aside)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as error:
        raise CondgenError(
            f"The model of the last checkpoint cannot be written to {folder} ({error.strerror}). Copy the run to a "
            "folder that can be written, or free some space."
        ) from None


def newest(folder: Path) -> Path | None:
    """The newest valid checkpoint of a stage; unlike `checkpoint.newest`, it changes nothing: the run may be active."""
    places = sorted(folder.glob("step-*"), reverse=True)
    return next((place for place in places if checkpoint.verify(place)), None)


def _reason(run: Path) -> str:
    """Completes the message about a run without a frame: what its stages have done, and what to do."""
    done = []
    for folder in sorted((run / "checkpoints").glob("*")) if (run / "checkpoints").is_dir() else []:
        if place := newest(folder):
            done.append(f"{folder.name.replace('_', ' ')} {json.loads((place / 'state.json').read_text())['images']:,}")
    seen = f" (images seen: {', '.join(done)})" if done else " and has no checkpoint"
    if "fit_decoder:" in (run / RUN_CONFIG).read_text(encoding="utf-8") and not any("decoder" in one for one in done):
        return f"{seen}; its model begins with the decoder. Repeat its training command to go on."
    return (
        f"{seen}; the stage that makes its model has not begun, or an earlier version of condgen wrote the run. "
        f"Repeat its training command to go on, or make a model of the checkpoint with its data: "
        f"condgen export {run}."
    )
