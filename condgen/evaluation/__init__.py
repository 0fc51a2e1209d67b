"""The judge: does a model paint what the words say, and which part of the corridor is to thank or blame?

`evaluate` writes JSON, Markdown and a sheet of pictures. For models of scenes: SceneEval on seen and on held-out
combinations, the swap test of the encoder, the prior report, the paper's ablation. For models of captioned pictures:
retrieval, the prior report and CLIP scores, on pictures that training never saw; and where the pictures are composed of
known layers, whether they show the right ones.
"""

from __future__ import annotations

from pathlib import Path

from condgen.contracts import CondgenError
from condgen.evaluation.captions import evaluate_captions
from condgen.evaluation.embeds import Told
from condgen.evaluation.parts import evaluate_parts
from condgen.evaluation.report import markdown, write
from condgen.evaluation.scenes import evaluate_scenes, scene_eval

__all__ = ["evaluate", "markdown", "scene_eval"]


def evaluate(
    model, out: Path | str | None = None, data: str = "", split: str = "test", prompts: int = 50, pictures: int = 4,
    ablate: int = 20, parts: str = "", told: Told = lambda share, what: None,
) -> dict:  # fmt: skip
    """Judges a model.

    Args:
        model: a TextToImage, a path or a name.
        out: folder for `report.json`, `report.md` and `sheet.png`; None writes nothing.
        data: captioned pictures to judge on; needed unless the model paints scenes.
        split: which part of `data`.
        prompts: per task of SceneEval, or captions of every table of parts.
        pictures: per prompt.
        ablate: prompts (per task, or per table of parts) for each line of the ablation; 0 leaves it out.
        parts: `parts.parquet`, to judge pictures made of known layers by their head and glasses.
        told: called with progress.

    Returns:
        the report, as written to `report.json`.
    """
    if not hasattr(model, "paint"):
        from condgen import load

        model = load(model)
    if parts and not data:
        raise CondgenError("To judge parts, give the folder of the test tables with --data.")
    if not data and model.about.get("recipe", "").startswith("scenes"):
        report, shown = evaluate_scenes(model, prompts, pictures, ablate, told)
    else:
        if not data:
            raise CondgenError(f"{model.name} does not paint scenes: give captioned pictures to judge on with --data.")
        from condgen.data.sources import load_captions

        report, shown = evaluate_captions(model, load_captions(data, model.size, split=split), pictures, told)
        if parts:
            more, shown = evaluate_parts(model, Path(data), Path(parts), prompts, pictures, ablate, told)
            report |= more
    report = {"model": model.name, "model_id": model.model_id} | report
    told(1.0, "done")
    if out is not None:
        write(Path(out), report, shown)
    return report
