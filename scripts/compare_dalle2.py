"""Trains DALLE2-pytorch and condgen on the same images, embeddings and core-minutes, and compares speed and SceneEval.

    python scripts/compare_dalle2.py runs/dalle2 --minutes 20
    python scripts/compare_dalle2.py runs/dalle2-quick --quick

DALLE2-pytorch is installed by pip into an environment of its own, `WORK/venv`, which sees the packages of this one; it
needs a connection. Both sides get the scenes of the recipe scenes32, and the encoder of the bundled model: its
embeddings of images and captions. Both train a prior for 15 % of the minutes and a decoder for the rest. Minutes are
those of the processor, and everything runs on one thread. DALLE2-pytorch also gets the encodings of the words by the
encoder's text tower; its settings are SETTINGS of `compare_dalle2_peer.py`. Its guidance is the best of GUIDANCES on
other prompts; condgen has that of its recipe. The same command continues where it stopped, and writes `table.md`,
`table.json` and `sheet.png` into WORK.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import condgen
from condgen.contracts import CondgenError, to_json
from condgen.data.synthetic.grammar import say
from condgen.data.synthetic.prompts import questions
from condgen.data.synthetic.scenes import scenes
from condgen.encoders.tokenizer import PAD
from condgen.evaluation.embed import embed_images, generate_prompts
from condgen.evaluation.scenes import SIDES, scene_eval
from condgen.files.images import grid, write_sheet
from condgen.metrics.geneval import TASKS
from condgen.pipelines.base import generator
from condgen.pipelines.text_to_image import TextToImage
from condgen.recipes import RECIPES, train
from condgen.training import trainer

PACKAGE = "dalle2-pytorch==1.15.6"
PEER = Path(__file__).with_name("compare_dalle2_peer.py")
PRIOR_SHARE = 0.15
"""Of the minutes of each side, for its priors."""
GUIDANCES = (1.0, 2.0, 4.0)
ENDLESS = 10**12
"""Images, for stages that end by time."""
OTHER_SEED = 77
"""Of the prompts on which guidance is chosen."""
QUICK = (0.1, 2000, 2)
"""Core-minutes, training images and prompts of each task with --quick."""
QUICK_SETTINGS = {"decoder": {"sample_timesteps": 4}, "prior": {"sample_timesteps": 4}}
SHOWN = 6
"""Prompts in a row of the sheet."""


def install(folder: Path) -> Path:
    """Installs DALLE2-pytorch into an environment, unless it is there; returns the environment's Python.

    A `.pth` file adds the packages of the running environment, so that pip keeps its torch.

    Raises:
        CondgenError: pip failed, or the package cannot be imported.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed"
    if done.exists():
        return python
    venv.create(folder, with_pip=True, clear=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)}, scheme="venv")
    (Path(paths["purelib"]) / "outer.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for command in (("-m", "pip", "install", "--quiet", PACKAGE), ("-c", "import dalle2_pytorch.trainer")):
        found = subprocess.run([python, *command], capture_output=True, text=True)
        if found.returncode:
            raise CondgenError(
                f"{PACKAGE} could not be installed into {folder}: {found.stderr.strip()[-600:]}. Expected a connection "
                "to a package index and a torch that it works with (2.14 does)."
            )
    done.touch()
    return python


@torch.inference_mode()
def encode(clip, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Token ids (B, L) -> embeddings (B, D) and the text tower's encodings of the words (B, L, W), 0 for padding."""
    embeds, encodings = [], []
    hook = clip.text.norm.register_forward_hook(lambda module, given, h: encodings.append(h))
    try:
        for part in tokens.split(512):
            embeds.append(clip.embed_text(part))
            missing = tokens.shape[1] - encodings[-1].shape[1]  # trimmed padding
            encodings[-1] = F.pad(encodings[-1], (0, 0, 0, missing)) * (part != PAD)[..., None]
    finally:
        hook.remove()
    return torch.cat(embeds), torch.cat(encodings)


def asked(held_out: bool, prompts: int, seed: int) -> list[str]:
    """The prompts of `scene_eval` with one image each, in its order."""
    return [say(meaning) for task in TASKS for meaning in questions(task, prompts, held_out, seed)]


def prompt_sets(prompts: int) -> dict[str, tuple[bool, int, int]]:
    """Name -> whether of held-out combinations, prompts of each task, seed; `choose` is for choosing guidance."""
    return {"choose": (False, 4, OTHER_SEED)} | {side: (held_out, prompts, 0) for side, held_out in SIDES.items()}


def write_texts(folder: Path, name: str, model: TextToImage, texts: Sequence[str]) -> None:
    """Writes the embeddings of texts and the encodings of their words."""
    embed, encodings = encode(model.clip, torch.from_numpy(model.tokenizer.encode(list(texts))))
    np.save(folder / f"{name}text_embed.npy", embed.numpy())
    np.save(folder / f"{name}text_encodings.npy", encodings.half().numpy())


def write_images(folder: Path, name: str, model: TextToImage, images: np.ndarray) -> None:
    """Writes images and their embeddings."""
    np.save(folder / f"{name}images.npy", images)
    np.save(folder / f"{name}image_embed.npy", embed_images(model.clip, images).numpy())


@torch.inference_mode()
def write_prompts(folder: Path, model: TextToImage, prompts: int) -> None:
    """Writes every set of prompts with `given_embed`, image embeddings by the model's prior."""
    for name, which in prompt_sets(prompts).items():
        texts = asked(*which)
        write_texts(folder, f"{name}_", model, texts)
        rng = [generator(i) for i in range(len(texts))]
        given = model.normalizer.back(model.draw_embed(model.embed_text(texts), rng))
        np.save(folder / f"{name}_given_embed.npy", F.normalize(given, dim=-1).numpy())


def write_data(folder: Path, model: TextToImage, images: int, prompts: int) -> None:
    """Writes what both sides share as .npy files, unless it is there.

    images uint8 (N, 3, S, S), image_embed (N, D), captions (N, C) with -1 for none, text_embed (T, D), text_encodings
    float16 (T, L, W); `check_`: images of other scenes, with their embeddings and a caption each; `choose_`, `seen_`,
    `held_out_`: prompts.

    Raises:
        CondgenError: the folder holds other data.
    """
    about = {"images": images, "prompts": prompts, "model": model.model_id}
    if (folder / "about.json").exists():
        if (before := json.loads((folder / "about.json").read_text())) != about:
            raise CondgenError(f"{folder} holds data of {before}, not of {about}: choose another folder for the work.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = RECIPES["scenes32"].config().data
    data = scenes(images, 0, config.size, negatives=config.negatives)
    write_images(folder, "", model, data.images)
    np.save(folder / "captions.npy", data.captions)
    write_texts(folder, "", model, data.texts)
    check = scenes(256, 30_000, config.size, negatives="none")
    write_images(folder, "check_", model, check.images)
    write_texts(folder, "check_", model, [check.texts[i] for i in check.captions[:, 0]])
    write_prompts(folder, model, prompts)
    (folder / "about.json").write_text(to_json(about))


class GivenImages:
    """Stands for a model in `scene_eval`: image i of the given ones is that of seed `first` + i.

    Args:
        images: uint8 (N, 3, S, S).
    """

    def __init__(self, images: np.ndarray, first: int = 0):
        self.images, self.first = torch.from_numpy(images).float() / 127.5 - 1, first

    def generate_batch(self, prompts: list[str], seeds: list[int]) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(images=self.images[[seed - self.first for seed in seeds]])


def score(images: np.ndarray, name: str, prompts: int) -> dict[str, float]:
    """SceneEval of images of a set of prompts, one each."""
    held_out, count, seed = prompt_sets(prompts)[name]
    return scene_eval(GivenImages(images, seed), held_out, count, 1, seed)[0]


def run_peer(python: Path, work: Path, minutes: float, jobs: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains the peer and samples `jobs`; returns its report.

    Raises:
        CondgenError: it failed.
    """
    command = [python, PEER, work, "--prior-minutes", minutes * PRIOR_SHARE, "--sample", jobs]
    command += ["--decoder-minutes", minutes * (1 - PRIOR_SHARE), "--settings", json.dumps(settings)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    if subprocess.run([str(word) for word in command], env=env).returncode:
        raise CondgenError("DALLE2-pytorch failed, see above. The same command continues from its last checkpoint.")
    return json.loads((work / "dalle2" / "report.json").read_text())


def peer_side(python: Path, work: Path, minutes: float, prompts: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains and scores DALLE2-pytorch."""

    def images(name: str, guidance: float) -> dict[str, np.ndarray]:
        return dict(np.load(work / "dalle2" / f"images-{name}-{guidance:g}.npz"))

    run_peer(python, work, minutes, ",".join(f"choose:{w:g}" for w in GUIDANCES), settings)
    chosen = {w: score(images("choose", w)["given"], "choose", prompts)["overall"] for w in GUIDANCES}
    guidance = max(chosen, key=chosen.__getitem__)
    report = run_peer(python, work, minutes, f"seen:{guidance:g},held_out:{guidance:g}", settings)
    found = {side: images(side, guidance) for side in SIDES}
    seconds = sum(float(found[side]["seconds"]) for side in SIDES)
    return report | {
        "guidance": guidance,
        "overall by guidance": chosen,
        "images": {prior: {side: found[side][prior] for side in SIDES} for prior in ("own", "given")},
        "sampled a second": sum(len(found[side]["own"]) for side in SIDES) / seconds,
    }


def own_config(minutes: float, images: int) -> Any:
    """The recipe scenes32 on the bundled encoder, whose stages end after their share of the minutes."""
    config = RECIPES["scenes32"].config(encoder="scenes32", eval_count=0)
    prior = minutes * PRIOR_SHARE / len(config.prior.kinds)
    return replace(
        config,
        data=replace(config.data, scenes=images),
        fit_prior=replace(config.fit_prior, minutes=prior, total_images=ENDLESS),
        fit_decoder=replace(config.fit_decoder, minutes=minutes * (1 - PRIOR_SHARE), total_images=ENDLESS),
    )


def own_side(work: Path, minutes: float, images: int, prompts: int, bundled: TextToImage) -> dict[str, Any]:
    """Trains and scores condgen."""
    config = own_config(minutes, images)
    with patch.object(trainer, "clock", time.process_time):  # the trainer's minutes become those of the processor
        model = TextToImage.load(train("scenes32", work / "condgen", config))
    lines = [json.loads(line) for line in (work / "condgen" / "metrics.jsonl").read_text().splitlines()]
    last = {line["stage"]: line for line in lines if "seconds" in line}
    stages = {stage.split()[0] for stage in last}
    report: dict[str, Any] = {
        stage: {key: sum(x[key] for name, x in last.items() if name.startswith(stage)) for key in ("images", "seconds")}
        for stage in stages
    }
    for stage in stages:
        parts = [part for name, part in model.modules.items() if name.startswith(stage)]
        report[stage]["parameters"] = sum(p.numel() for part in parts for p in part.parameters())
    given = TextToImage(model.clip, model.tokenizer, model.normalizer, bundled.priors, model.decoder, model.about)
    found, seconds = {"own": {}, "given": {}}, 0.0
    for side, held_out in SIDES.items():
        texts = asked(held_out, prompts, 0)
        began = time.process_time()
        found["own"][side] = draw(model, texts)
        seconds += time.process_time() - began
        found["given"][side] = draw(given, texts)
    count = sum(map(len, found["own"].values()))
    return report | {"images": found, "guidance": config.decoder.guidance, "sampled a second": count / seconds}


def draw(model: TextToImage, prompts: list[str], size: int = 64) -> np.ndarray:
    """One image of every prompt, with seeds from 0."""
    parts = [slice(i, i + size) for i in range(0, len(prompts), size)]
    seeds = list(range(len(prompts)))
    return np.concatenate([generate_prompts(model, prompts[part], seeds[part]) for part in parts])


def rows_of(side: dict[str, Any], scored: Callable[[np.ndarray, str], dict[str, float]]) -> dict[str, float]:
    """The figures of a side in the table."""
    rows: dict[str, float] = {}
    for stage in ("prior", "decoder"):
        rows |= {
            f"{stage}: parameters, millions": side[stage]["parameters"] / 1e6,
            f"{stage}: core-minutes": side[stage]["seconds"] / 60,
            f"{stage}: training images": side[stage]["images"],
            f"{stage}: training images a core-second": side[stage]["images"] / max(side[stage]["seconds"], 1e-9),
        }
    rows |= {"guidance": side["guidance"], "images sampled a core-second": side["sampled a second"]}
    for which, name in {"own": "SceneEval", "given": "SceneEval, prior of the bundled model"}.items():
        for part, images in side["images"][which].items():
            found = scored(images, part)
            rows |= {f"{name}, {part.replace('_', '-')} {key}": found[key] for key in ("overall", "exact")}
    return rows


def markdown_table(peer: dict[str, float], own: dict[str, float]) -> str:
    """Both sides and, for numbers of images, the ratio of condgen to DALLE2-pytorch."""

    def cell(name: str, value: float) -> str:
        return (
            f"{value:,.0f}"
            if name.endswith("training images")
            else f"{value:.3f}"
            if "Eval" in name
            else f"{value:.3g}"
        )

    lines = ["| | DALLE2-pytorch | condgen | ratio |", "|---|---|---|---|"]
    for name in peer:
        ratio = f"{own[name] / peer[name]:.1f}" if "images" in name and peer[name] else ""
        lines.append(f"| {name} | {cell(name, peer[name])} | {cell(name, own[name])} | {ratio} |")
    return "\n".join(lines)


def sheet(peer: dict[str, Any], own: dict[str, Any], prompts: int) -> Image.Image:
    """Images of some prompts of every side: a row of DALLE2-pytorch above a row of condgen."""
    images, labels = [], []
    for side, held_out in SIDES.items():
        texts = asked(held_out, prompts, 0)
        chosen = np.linspace(0, len(texts) - 1, 2 * SHOWN).astype(int)
        for rows in chosen.reshape(2, SHOWN):
            for name, found in (("DALLE2-pytorch", peer), ("condgen", own)):
                images += [Image.fromarray(found["images"]["own"][side][i].transpose(1, 2, 0)) for i in rows]
                labels += [f"{name}: {texts[i]}" for i in rows]
    return grid(images, labels, columns=SHOWN, cell=128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="folder for the environment, the data and both runs")
    parser.add_argument("--minutes", type=float, default=20.0, help="core-minutes of each side")
    parser.add_argument("--prompts", type=int, default=12, help="of each task of SceneEval, one image each")
    parser.add_argument("--venv", type=Path, help="another folder for the environment of DALLE2-pytorch")
    parser.add_argument("--settings", type=json.loads, default={}, help="changes of the peer's SETTINGS, as JSON")
    parser.add_argument("--peer-only", action="store_true", help="train DALLE2-pytorch alone, without a table")
    parser.add_argument("--quick", action="store_true", help="a few steps of each side, to see that everything runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    minutes, images, prompts = QUICK if args.quick else (args.minutes, 80_000, args.prompts)
    settings = QUICK_SETTINGS | args.settings if args.quick else args.settings
    bundled = condgen.load("scenes32")
    python = install(args.venv or args.work / "venv")
    write_data(args.work / "data", bundled, images, prompts)
    peer = peer_side(python, args.work, minutes, prompts, settings)
    if args.peer_only:
        return
    own = own_side(args.work, minutes, images, prompts, bundled)

    def scored(found: np.ndarray, name: str) -> dict[str, float]:
        return score(found, name, prompts)

    tables = {"DALLE2-pytorch": rows_of(peer, scored), "condgen": rows_of(own, scored)}
    text = markdown_table(*tables.values())
    (args.work / "table.md").write_text(text + "\n")
    about = {"minutes": minutes, "prompts of each task": prompts, "python": sys.version.split()[0]}
    about |= {"package": PACKAGE, "torch": torch.__version__, "overall by guidance": peer["overall by guidance"]}
    (args.work / "table.json").write_text(to_json(about | {"tables": tables, "peer": peer["settings"]}, indent=2))
    write_sheet(args.work / "sheet.png", sheet(peer, own, prompts))
    print(text)


if __name__ == "__main__":
    main()
