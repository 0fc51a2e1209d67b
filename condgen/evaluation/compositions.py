"""SceneEval-2: prompts of 3 to 10 atoms, scored by atom and by prompt, on seen and on held-out combinations."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from condgen.contracts import CondgenWarning, ProgressCallback
from condgen.data.synthetic.compositions import TEMPLATES, composition_prompts
from condgen.data.synthetic.descriptions import Description, say
from condgen.data.synthetic.detector import VERSION, detect
from condgen.evaluation.base import Findings, Report, reranked
from condgen.evaluation.embed import generate_prompts
from condgen.evaluation.options import TextToImageOptions
from condgen.evaluation.scenes import BATCH, SIDES
from condgen.metrics.atoms import Atom, check_atoms, description_cause, score_atoms
from condgen.metrics.failures import count_failures


@dataclass(frozen=True)
class EvaluatedComposition:
    """An image of SceneEval-2, uint8 (3, S, S), with its atoms; `cause` is None if it shows exactly its prompt."""

    prompt: Description
    image: np.ndarray
    atoms: list[Atom]
    cause: str | None

    @property
    def passed(self) -> bool:
        """Whether all atoms are right."""
        return all(right for _, right in self.atoms)


def composition_images(
    model, atoms: int, held_out: bool, prompts: int = 50, images_per_prompt: int = 4, seed: int = 0, **options
) -> list[EvaluatedComposition]:
    """Generates and evaluates the images of SceneEval-2 for prompts of one number of atoms.

    Args:
        model: a TextToImage of scenes; one that knows the captions of version 1 only may be given.
        atoms: a key of `TEMPLATES`: 3, 5, 6, 7, 8 or 10.
        held_out: use prompts with combinations that are held out from training.
        prompts: maximum number of prompts.
        images_per_prompt: number of images per prompt.
        seed: seed of the prompts and of the first image; further images have the following seeds.
        options: candidates, and options of `generate_batch`: prior, use_z, use_words, sampling options.

    Returns:
        the images of the first prompt, then those of the next.
    """
    jobs = [one for one in composition_prompts(atoms, prompts, held_out, seed)[0] for _ in range(images_per_prompt)]
    results = []
    for start in range(0, len(jobs), BATCH):
        part = jobs[start : start + BATCH]
        seeds = [seed + start + i for i in range(len(part))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)  # `unread` counts the prompts that are too long
            generated = generate_prompts(model, [say(one) for one in part], seeds, **options)
        results += [
            EvaluatedComposition(one, image, check_atoms(one, seen), description_cause(one, seen))
            for one, image, seen in zip(part, generated, detect(generated))
        ]
    return results


def scene_eval_2(
    model, held_out: bool, prompts: int = 50, images_per_prompt: int = 4, seed: int = 0, **options
) -> dict[str, dict[str, float | None]]:
    """The scores of SceneEval-2 by number of atoms, and of all prompts.

    Args: see `composition_images`; `prompts` is the maximum for each number of atoms.

    Returns:
        `3 atoms`, ..., `all` -> scores, see `metrics.atoms.score_atoms`.
    """
    found = {
        atoms: composition_images(model, atoms, held_out, prompts, images_per_prompt, seed, **options)
        for atoms in TEMPLATES
    }
    return scores_of(found)


def scores_of(images: dict[int, list[EvaluatedComposition]]) -> dict[str, dict[str, float | None]]:
    """Scores by number of atoms, and of all images."""
    rows = {f"{atoms} atoms": own for atoms, own in images.items()}
    rows["all"] = [one for own in images.values() for one in own]
    return {
        name: score_atoms((one.atoms, len(one.prompt.phrases), one.cause) for one in own) for name, own in rows.items()
    }


def composition_scores(model) -> dict[str, float]:
    """Scores for the metrics of training, on few prompts: `seen/5 atoms`, `held_out/all` and so on."""
    scores: dict[str, float] = {}
    for side, held_out in SIDES.items():
        found = scene_eval_2(model, held_out, prompts=12, images_per_prompt=1)
        scores |= {f"{side}/{name}": row["prompt"] or 0.0 for name, row in found.items()}
    return scores


def unread(model, held_out: bool, prompts: int, seed: int = 0) -> dict[str, float]:
    """Share of prompts by number of atoms whose end, or a word of which, the model does not read; articles may lack."""
    shares = {}
    for atoms in TEMPLATES:
        read = [model.tokenizer.read(say(one)) for one in composition_prompts(atoms, prompts, held_out, seed)[0]]
        shares[f"{atoms} atoms"] = float(np.mean([bool(one.cut or one.unread) for one in read]))
    return shares


def evaluate_compositions(model, options: TextToImageOptions, progress: ProgressCallback) -> Findings:
    """SceneEval-2 of both sides: scores, failed images by cause, and the share of prompts that are not read."""
    report: Report = {"kind": "scenes 2", "detector": {"shapes of scenes": {"version": VERSION}}} | reranked(options)
    report |= {name: {} for name in ("scene_eval_2", "failures", "not_read")}
    examples, rounds = [], len(SIDES) * len(TEMPLATES)
    for k, (side, held_out) in enumerate(SIDES.items()):
        found = {}
        for i, atoms in enumerate(TEMPLATES):
            progress((k * len(TEMPLATES) + i) / rounds, f"SceneEval-2, {side}, {atoms} atoms")
            found[atoms] = own = composition_images(
                model, atoms, held_out, options.prompts, options.images_per_prompt, candidates=options.candidates
            )
            shown = own[:: options.images_per_prompt][:8]
            examples += [(say(one.prompt), one.image, one.passed) for one in shown]
        report["scene_eval_2"][side] = scores_of(found)
        report["failures"][side] = count_failures(
            (f"{atoms} atoms", one.passed, one.cause) for atoms, own in found.items() for one in own
        )
        report["not_read"][side] = unread(model, held_out, options.prompts)
    return Findings(report, {"sheet": examples})
