"""Makes all fixtures of this folder with the FIRST edition of condgen. It is kept as a record; nobody runs it again.

    cd CHECKOUT_OF_THE_FIRST_EDITION
    OMP_NUM_THREADS=1 PYTHONPATH=. python PATH/TO/tests/compat/make_fixtures.py OUT

OUT must not exist; afterwards it holds

    data/            the images that models and runs read: drawn.parquet, photos/
    models/NAME/     a model folder of every kind, without card and sheet
    runs/NAME/       a run folder of every kind of training, stopped in the middle; files of weights are gzipped in both
    embeds/          what `condgen embed` wrote for models/text
    search-cache/    what `condgen search --cache` wrote for models/clip-resnet and scikit-learn's digits
    replay/          generated PNGs with their recipe
    expected.json    hashes of what every model generates and of every run's final weights
    expected.npz     outputs as arrays, for machines that round otherwise; for final weights models/NAME serves
    cli.json         options of every command and recipe, and commands from README, docs and scripts

and everything but `outputs.py`, this script and the tests is copied from there. Weights and outputs depend on nothing
but the machine's floating-point kernels; times of day in metrics.jsonl and the seconds in state.json differ.

Some parts of decoders have a fixed width. To keep the files small, most of their first weights are set to zero, in such
a way that training leaves them at zero, see `thin`; gzip then shrinks them to nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from outputs import condgen_main, is_understood, outputs_of, pack, probe, run, sha, shas, weights_of
from PIL import Image

DRAWN = "data/drawn.parquet"
SIZE_16 = ["--data", DRAWN, "--pictures.size", "16"]


def fit(*stages: str, batch: int = 8, steps: int = 6) -> list[str]:
    """Options for so many steps, and for three looks at the state: after step 2, after step 4, at the end."""
    batches = [word for stage in stages for word in (f"--fit_{stage}.batch", str(batch))]
    return ["--images", str(batch * steps), *batches, "--watch", "3"]


def shape(part: str, **values: object) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{part}.{name}", str(value))]


CLIP = shape("clip", embed_dim=8, image_width=4, text_width=4, depth=1, heads=1, vocab=80)
PRIOR = shape("prior", width=4, depth=1, heads=1)
NET = {"channels": "[8, 8]", "width": 8, "heads": 1, "word_depth": 1}
# Learning rates are high where six steps would else leave the images plain grey.
DIFFUSION = [*shape("decoder", **NET, depth=1, steps=4), "--fit_decoder.lr", "0.1"]
ONE_PASS = NET | {"channels": "[4, 4]"}
CGAN, CVAE = shape("cgan", **ONE_PASS, code=4), shape("cvae", **ONE_PASS, latent=4)
TEXT = [*CLIP, "--clip.image_width", "2", *PRIOR, *fit("clip", "prior", "decoder")]
BACKBONE = shape("backbone", width=4, depth=1, stages=2)
SELFSUP = [*BACKBONE, *shape("objective", dim=8, hidden=8), *fit("selfsup")]
DIGITS = [["--label", "3"], ["--label", "8"]]


@dataclasses.dataclass(frozen=True)
class Spec:
    """One training: where it ends is models/NAME, where it is stopped is a run.

    Args:
        kind: what the model is, see `outputs.outputs_of`.
        recipe, options: the command, `condgen train RECIPE OPTIONS`.
        stops: run name -> stage whose checkpoint after step 4 is kept.
        labels: of a label model: what to generate.
    """

    name: str
    kind: str
    recipe: str
    options: list[str]
    stops: dict[str, str]
    labels: list[list[str]] | None = None


def spec(name: str, kind: str, recipe: str, options: list[str], stage: str, labels=None) -> Spec:
    return Spec(name, kind, recipe, options, {name: stage}, labels)


SPECS = [
    Spec(
        "text",
        "text",
        "captions",
        [*SIZE_16, *DIFFUSION, *TEXT],
        {"text-in-clip": "clip", "text-in-prior": "prior diffusion", "text-in-decoder": "decoder"},
    ),
    spec(
        "text-cgan",
        "text",
        "scenes32-cgan",
        [
            "--pictures.size",
            "16",
            "--pictures.scenes",
            "48",
            "--prior.kinds",
            "[regression]",
            *CGAN,
            *TEXT,
            "--fit_decoder.ema",
            "0",
            "--fit_decoder.optimiser",
            "muon",
        ],
        "decoder",
    ),
    spec(
        "text-cvae",
        "text",
        "captions",
        [
            *SIZE_16,
            "--kind",
            "cvae",
            "--decoder_objective.told",
            "text",
            "--start",
            "whole/text",
            *CVAE,
            *TEXT,
            "--fit_decoder.ema",
            "0",
        ],
        "decoder",
    ),
    spec(
        "text-embeds",
        "text",
        "captions",
        [
            *SIZE_16,
            "--encoder",
            "models/text",
            "--embeds",
            "embeds",
            "--pictures.stream",
            "always",
            "--prior.kinds",
            "[regression]",
            "--pictures.shift",
            "1",
            *DIFFUSION,
            *TEXT,
            "--fit_decoder.ema",
            "0",
        ],
        "decoder",
    ),
    spec(
        "labels-weak",
        "labels",
        "labels-diffusion",
        [
            "--data",
            DRAWN,
            "--pictures.attributes",
            "[age, laces]",
            "--weak",
            "0.3",
            "--decoder.objective",
            "edm",
            *DIFFUSION,
            *fit("decoder"),
        ],
        "decoder",
        [["--label", "circle", "--set", "age=30", "laces=yes", "--autoguidance", "2"], ["--set", "age=55"]],
    ),
    spec(
        "labels-diffusion",
        "labels",
        "digits-diffusion",
        [*DIFFUSION, *shape("decoder", channels="[8]"), *fit("decoder"), "--fit_decoder.ema", "0"],
        "decoder",
        DIGITS,
    ),
    spec(
        "labels-cgan",
        "labels",
        "digits-cgan",
        [*CGAN, *shape("cgan", channels="[4]"), *fit("decoder")],
        "decoder",
        DIGITS,
    ),
    spec(
        "labels-cvae",
        "labels",
        "digits-cvae",
        [*CVAE, *shape("cvae", channels="[4]"), *fit("decoder")],
        "decoder",
        DIGITS,
    ),
    spec(
        "selfsup-simclr",
        "image-encoder",
        "selfsup",
        ["--data", "digits", "--method", "simclr", "--backbone.norm", "batch", *SELFSUP],
        "selfsup",
    ),
    spec(
        "selfsup-moco",
        "image-encoder",
        "selfsup",
        [
            "--data",
            "digits",
            "--method",
            "moco",
            *shape("backbone", kind="patch", heads=1),
            *SELFSUP,
            "--objective.queue",
            "16",
        ],
        "selfsup",
    ),
    spec(
        "selfsup-instance",
        "image-encoder",
        "selfsup",
        ["--data", DRAWN, "--method", "instance", *SELFSUP, "--pictures.size", "8", "--objective.noise", "4"],
        "selfsup",
    ),
    spec(
        "clip-grid",
        "encoder",
        "clip",
        [
            *SIZE_16,
            *CLIP,
            "--clip.image_width",
            "2",
            "--clip.image",
            "grid",
            "--clip.text",
            "words",
            "--clip_objective.caption",
            "0.5",
            *fit("clip"),
        ],
        "clip",
    ),
    spec(
        "clip-patch",
        "encoder",
        "clip",
        [
            *SIZE_16,
            *CLIP,
            "--clip.image",
            "patch",
            "--clip.patch",
            "4",
            "--clip_objective.loss",
            "siglip",
            *fit("clip"),
        ],
        "clip",
    ),
    spec(
        "clip-resnet",
        "encoder",
        "clip",
        [
            "--data",
            "digits",
            "--pictures.size",
            "8",
            *CLIP,
            "--clip.image_depth",
            "1",
            "--clip.stages",
            "2",
            "--clip.norm",
            "batch",
            "--start",
            "models/selfsup-simclr",
            "--clip_objective.positives",
            "label",
            *fit("clip"),
        ],
        "clip",
    ),
    spec(
        "ae-linear",
        "latent",
        "digits-linear",
        [*shape("autoencoder", latent=4), "--components", "2", *fit("autoencoder")],
        "autoencoder",
    ),
    spec(
        "vae-mlp",
        "latent",
        "digits-vae",
        [*shape("autoencoder", latent=4, hidden="[12]"), "--components", "0", *fit("autoencoder")],
        "autoencoder",
    ),
    spec(
        "vae-conv",
        "latent",
        "digits-conv-vae",
        [*shape("autoencoder", latent=4, channels="[4]", sigma="learned"), "--components", "2", *fit("autoencoder")],
        "autoencoder",
    ),
    spec(
        "gan-mlp", "latent", "digits-gan", [*shape("gan", code=4, width=4), *fit("gan"), "--fit_gan.lr", "0.1"], "gan"
    ),
    spec(
        "gan-dcgan",
        "latent",
        "digits-dcgan",
        [*shape("gan", code=4, width=4), *fit("gan"), "--fit_gan.lr", "0.1"],
        "gan",
    ),
    spec(
        "gan-infogan",
        "latent",
        "digits-infogan",
        [*shape("gan", code=4, width=4, hidden=6), *fit("gan"), "--fit_gan.lr", "0.1"],
        "gan",
    ),
    spec(
        "translator-paired",
        "translator",
        "edges2picture",
        [*shape("pictures", size=16, drawn=48), *shape("net", width=2), "--paired.critic", "2", *fit("translation")],
        "translation",
    ),
    spec(
        "translator-unpaired",
        "translator",
        "squares2circles",
        [
            *shape("pictures", size=16, drawn=48),
            *shape("net", width=2, blocks=1),
            *shape("unpaired", critic=2, pool=4),
            *fit("translation", batch=4),
        ],
        "translation",
    ),
]
BUNDLED = {
    "scenes32": ("text", None),
    "nouns32": ("text", None),
    "fashion-diffusion": ("labels", [["--label", "Sneaker"], ["--label", "Dress", "--guidance", "3"]]),
    "emoji-clip": ("encoder", None),
    "fashion-clip": ("encoder", None),
}
SEARCH = ["search", "models/clip-resnet", "--data", "digits", "--split", "test", "--text", "a photo of a 3", "--json"]
STEPS_BEFORE_THE_STOP = 4
DECODER = "decoder/model.safetensors"


# Data -----------------------------------------------------------------------------------------------------------------


def make_data(folder: Path) -> None:
    """48 drawn scenes of 16 px with caption, label and two attributes, and six of them as files."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from condgen.data.scenes import scenes

    data, rng = scenes(48, 0, 16, negatives="none"), np.random.default_rng(0)
    (folder / "photos").mkdir(parents=True)
    rows = []
    for i, image in enumerate(data.images):
        file, caption = io.BytesIO(), data.texts[data.captions[i, 0]]
        drawn = Image.fromarray(image.transpose(1, 2, 0))
        drawn.save(file, "PNG")
        if i < 6:
            drawn.save(folder / "photos" / f"{i}.png")
        kinds = [kind for kind in ("circle", "square", "triangle") if kind in caption]
        rows.append(
            {
                "image": {"bytes": file.getvalue(), "path": f"{i}.png"},
                "text": caption,
                "label": kinds[0] if kinds else "other",
                "age": round(float(rng.normal(40, 10)), 1),
                "laces": "yes" if rng.random() < 0.5 else "no",
                "split": "train",
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), folder / "drawn.parquet", compression="none")


# Models and runs ------------------------------------------------------------------------------------------------------


def thin(training: torch.nn.Module) -> torch.nn.Module:
    """Sets weights to zero, in place, in groups whose gradients are then zero, too."""
    for part in training.modules():
        kind = type(part).__name__
        if kind == "Layout":
            for number, block in enumerate(part.blocks):
                for name, value in block.named_parameters():
                    if "norm" not in name and (number or name.startswith("mlp")):
                        value.data.zero_()
            look = part.blocks[0].attention  # all heads but the first
            for value in (look.qkv.weight, look.qkv.bias, look.context_kv.weight, look.context_kv.bias):
                value.data.unflatten(0, (-1, look.heads, len(look.q_norm.weight)))[:, 1:].zero_()
            look.out.weight.data[:, len(look.q_norm.weight) :].zero_()
        elif kind == "Critic" and hasattr(part, "said"):
            for value in (part.features.weight, part.features.bias, part.said.weight, part.said.bias):
                value.data[8:].zero_()
            part.real.weight.data[:, 8:].zero_()
        elif kind == "GanCritic" and getattr(part, "codes", None):
            part.codes[0].weight.data[8:].zero_()
            part.codes[0].bias.data[8:].zero_()
            part.codes[2].weight.data[:, 8:].zero_()
        elif kind == "Flow":
            for first, _, second, _, last in part.couplings:
                for value in (first.weight, first.bias, second.weight, second.bias):
                    value.data[8:].zero_()
                second.weight.data[:, 8:].zero_()
                last.weight.data[:, 8:].zero_()
    return training


@contextmanager
def thinned():
    """Decoders begin with most of their weights at zero."""
    from condgen import corridor, gan_training, label_training

    training_of, gan = corridor.training_of, gan_training.GanTraining
    corridor.training_of = label_training.training_of = lambda config, decoder: thin(training_of(config, decoder))
    gan_training.GanTraining = lambda *args: thin(gan(*args))
    try:
        yield
    finally:
        corridor.training_of = label_training.training_of = training_of
        gan_training.GanTraining = gan


@contextmanager
def small_states(stop: str = ""):
    """After step 4 of every stage all numbers are rounded to four binary digits: gzip then makes checkpoints small.

    Args:
        stop: stage to stop in at that step, with a checkpoint; empty goes on.
    """
    from condgen.training.loop import Fit

    step, resume = Fit._step, Fit.resume

    def resuming(self, folder: Path):
        self.place = folder
        return resume(self, folder)

    def rounding(self):
        if self.count == STEPS_BEFORE_THE_STOP:
            own = dict(self.model.named_parameters())  # no buffers: a normaliser among them is used elsewhere, too
            values = [*own.values(), *(self.ema.mean[name] for name in own if self.ema)]
            for optimiser in (one for some in self.optimisers.values() for one in some):
                values += [v for state in optimiser.state.values() for name, v in state.items() if name != "step"]
            for value in values:
                if value.is_floating_point():
                    mantissa, exponent = torch.frexp(value.data)
                    value.data.copy_(torch.ldexp((mantissa * 16).round() / 16, exponent))
            if self.place.name == stop:
                self.save(self.place)
                raise KeyboardInterrupt(2)
        return step(self)

    Fit._step, Fit.resume = rounding, resuming
    try:
        yield
    finally:
        Fit._step, Fit.resume = step, resume


def train(item: Spec, place: Path) -> int:
    return condgen_main("train", item.recipe, *item.options, "-o", place)


def make_models_and_runs() -> dict:
    """Fills models/ and runs/ and gives what is expected of the runs; whole/ is left over."""
    runs = {}
    for item in SPECS:
        whole = Path("whole", item.name)
        with thinned(), small_states():
            assert train(item, whole) == 0, item.name
        if item.name != "text-embeds":  # of the kind of models/text
            keep_model(whole / "model", Path("models", item.name))
        straight = shas(weights_of(whole / "model"))
        for name, stage in item.stops.items():
            place = Path("runs", name)
            with thinned(), small_states(stage):
                assert train(item, place) == 130, name
            prune(place, stage)
            again = Path("again", name)
            shutil.copytree(place, again)
            assert train(item, again) == 0, name  # as a user would: stages that begin now are as they always are
            weights = shas(weights_of(again / "model"))
            alike = [file for file, own in weights.items() if own == straight.get(file)]
            finished = {"clip": ["clip/model.safetensors"], "prior diffusion": sorted({*weights} - {DECODER})}
            assert {*finished.get(stage, weights)} <= {*alike}, f"{name}: the resumed run ends elsewhere"
            runs[name] = {
                "recipe": item.recipe,
                "options": item.options,
                "stage": stage,
                "model": item.name if Path("models", item.name).exists() else "",
                "as_in_model": alike,
                "weights": weights,
            }
        if item.name == "text":
            run("embed", "models/text", "--data", DRAWN, "-o", "embeds")
        print(item.name, flush=True)
    return runs


def keep_model(source: Path, place: Path) -> None:
    """A model folder without what it does not need."""
    shutil.copytree(source, place, ignore=shutil.ignore_patterns("README.md", "sheet.png"))


def prune(place: Path, stage: str) -> None:
    """Leaves what resuming needs: the newest checkpoint of every stage, no curves, no sample sheets."""
    for name in ("tensorboard", "samples", "faults"):
        shutil.rmtree(place / name, ignore_errors=True)
    assert (place / "checkpoints" / stage).is_dir()
    for folder in (place / "checkpoints").iterdir():
        for old in sorted(folder.glob("step-*"))[:-1]:
            shutil.rmtree(old)
        if folder.name != stage and place.name != "text-in-prior":  # one run keeps those of finished stages
            shutil.rmtree(folder)


def make_foreign() -> None:
    """Encoders of other libraries as models of condgen: open_clip, SigLIP, and a pair of towers with a BERT."""
    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    write_tiny_open_clip(Path("foreign/open_clip"))
    write_tiny_siglip(Path("foreign/siglip"), small)
    write_tiny_bert(Path("foreign/bert"), small)
    for name, source in (("clip-open-clip", "open_clip"), ("clip-transformers", "siglip")):
        run("import", f"foreign/{source}", "-o", f"imported/{name}")
        keep_model(Path("imported", name), Path("models", name))
    options = [
        *SIZE_16, *CLIP, "--clip.image", "patch", "--clip.patch", "4", "--text", "transformers:foreign/bert",
        *fit("clip"),
    ]  # fmt: skip
    run("train", "clip", *options, "-o", "whole/clip-paired")
    keep_model(Path("whole/clip-paired/model"), Path("models/clip-paired"))


def write_tokenizer(folder: Path, bert: bool = False) -> int:
    """A byte-pair tokenizer with CLIP's marks, or one of whole words with BERT's; gives the number of its ids."""
    import pyarrow.parquet as pq
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    captions = pq.read_table(DRAWN).column("text").to_pylist()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if bert else ["<unk>", "<start>", "<stop>"]
    words = [*marks, *sorted({word for caption in captions for word in caption.lower().split()})]
    numbered = {word: number for number, word in enumerate(words)}
    backend = Tokenizer(models.WordPiece(numbered, unk_token="[UNK]") if bert else models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if not bert:
        trainer = trainers.BpeTrainer(vocab_size=80, special_tokens=marks, show_progress=False)
        backend.train_from_iterator(captions, trainer)
    first, last = marks[-2:]
    number = {mark: backend.token_to_id(mark) for mark in marks}
    backend.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", special_tokens=[(first, number[first]), (last, number[last])]
    )
    names = {"bos_token": first, "eos_token": last, "unk_token": "[UNK]" if bert else "<unk>"}
    pad = "[PAD]" if bert else "<stop>"
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, model_max_length=16, **names)
    fast.save_pretrained(folder)
    return backend.get_vocab_size()


def write_tiny_open_clip(folder: Path) -> None:
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    text = {"width": 8, "heads": 1, "layers": 1, "context_length": 16, "vocab_size": write_tokenizer(folder)}
    text |= {"hf_tokenizer_name": "here", "pool_type": "eos", "eos_id": 2}
    vision = {"image_size": 16, "patch_size": 8, "width": 8, "head_width": 8, "layers": 1}
    plan = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(4)
    save_file(open_clip.CLIP(**plan).state_dict(), folder / "open_clip_model.safetensors")
    looks = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": plan, "preprocess_cfg": looks}))


def write_tiny_siglip(folder: Path, small: dict) -> None:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    folder.mkdir(parents=True)
    text = small | {"vocab_size": write_tokenizer(folder), "max_position_embeddings": 16}
    torch.manual_seed(2)
    config = SiglipConfig(text_config=text, vision_config=small | {"image_size": 16, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)


def write_tiny_bert(folder: Path, small: dict) -> None:
    from transformers import BertConfig, BertModel

    folder.mkdir(parents=True)
    vocab = write_tokenizer(folder, bert=True)
    torch.manual_seed(3)
    config = BertConfig(vocab_size=vocab, **small, max_position_embeddings=32)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


# What is expected -----------------------------------------------------------------------------------------------------


def facts_of(folder: Path) -> dict:
    """The identity of a model: `model_id`, and the space of its embeddings where it has any."""
    import condgen

    model = condgen.load(folder)
    space = getattr(model, "space", None) or (model.normaliser.config.space if hasattr(model, "normaliser") else "")
    return {"model_id": model.model_id, "space": space}


def expect_models(folders: dict[str, tuple[Path, str, list | None]], arrays: dict, prefix: str) -> dict:
    """Runs every model; adds what it makes to `arrays`, and gives the hashes."""
    found = {}
    for name, (folder, kind, labels) in folders.items():
        with tempfile.TemporaryDirectory() as scratch:
            made = outputs_of(kind, folder, Path("data"), Path(scratch), labels)
        arrays |= {f"{prefix}/{name}/{key}": value for key, value in made.items()}
        hashes = {key: sha(value) for key, value in made.items()}
        found[name] = {"kind": kind, "labels": labels} | facts_of(folder) | {"outputs": hashes}
    return found


def make_replay() -> None:
    """One generated PNG of every kind of model that writes recipes, and one of a bundled model."""
    for name, words in {
        "text": ["generate", "a red circle above a blue square", "--model", "models/text", "--prior", "diffusion",
                 "--best-of", "2", "--guidance", "3"],
        "labels-weak": ["sample", "--model", "models/labels-weak", "--label", "square", "--set", "age=30",
                        "--autoguidance", "2"],
        "labels-cvae": ["sample", "--model", "models/labels-cvae", "--label", "5", "--temperature", "0.9"],
        "vae-conv": ["sample", "--model", "models/vae-conv", "-n", "1"],
        "scenes32": ["generate", "three green triangles", "--model", "scenes32", "--steps", "6"],
    }.items():  # fmt: skip
        run(*words, "--seed", "7", "-o", f"out/{name}")
        (file,) = Path("out", name).glob("*.png")
        Path("replay").mkdir(exist_ok=True)
        shutil.copy(file, f"replay/{name}.png")


def json_of(*words: str) -> object:
    """What a command writes to stdout, as JSON."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        run(*words)
    return json.loads(out.getvalue())


# The command line -----------------------------------------------------------------------------------------------------


def options_of(parser: argparse.ArgumentParser, name: str = "") -> dict[str, list[str]]:
    """Command -> its option strings, for a parser and all its subparsers."""
    found = {name: sorted({o for action in parser._actions for o in action.option_strings})}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, own in action.choices.items():
                found |= options_of(own, f"{name} {verb}".strip())
    return found


def flat(config: object, prefix: str = "") -> dict[str, object]:
    """Dataclass -> dotted option -> its value as text for the command line."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= flat(value, f"{prefix}{field.name}.")
        else:
            listed = isinstance(value, tuple)
            found[f"{prefix}{field.name}"] = json.dumps(list(value)) if listed else str(value).replace("True", "true")
    return {name: value.replace("False", "false") for name, value in found.items()}


def make_cli(checkout: Path) -> dict:
    """Options of every verb, options with their values of every recipe in every size, and documented commands."""
    from condgen.cli.main import _parser
    from condgen.cli.train import config_parser, own_parser
    from condgen.recipes import RECIPES

    parsers, recipes = {}, {}
    for name, recipe in RECIPES.items():
        kind = type(recipe.base).__name__
        if kind not in parsers:
            both = (own_parser(name), config_parser(name, recipe.base))
            parsers[kind] = {
                "options": sorted({o for p in both for a in p._actions for o in a.option_strings}),
                "values": flat(recipe.base),
            }
        usual = parsers[kind]["values"]
        sizes = {"": recipe.base} | {size: change(recipe.base) for size, change in recipe.sizes.items()}
        recipes[name] = {
            "config": kind,
            "sizes": {s: {k: v for k, v in flat(c).items() if usual[k] != v} for s, c in sizes.items()},
        }
    return {
        "verbs": options_of(_parser()),
        "configs": parsers,
        "recipes": recipes,
        "commands": documented(checkout),
    }


def documented(checkout: Path) -> list[str]:
    """Commands in README, docs, scripts and docstrings, each on one line."""
    files = [
        checkout / "README.md",
        *sorted((checkout / "docs").glob("*.md")),
        *sorted((checkout / "scripts").glob("*.py")),
    ]
    found: list[str] = []
    for file in files:
        text = re.sub(r"\n\s*", " ", file.read_text(encoding="utf-8")) if file.suffix == ".md" else file.read_text()
        quoted = re.findall(r"`((?:torchrun [^`]*-m )?condgen [a-z][^`]*)`", text)
        lines = re.findall(r"^(?:.*-m )?(condgen [a-z].*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        for command in [*quoted, *(line.split("&&")[-1].strip() for line in lines)]:
            command = re.sub(r"^torchrun .*-m ", "", command)
            if not re.search(r"\.\.\.|`|\||\[-", command) and command not in found:
                found.append(command)
    return [command for command in found if is_understood(command)]


# All of it ------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the fixtures of the first edition.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out.resolve()
    try:
        import condgen.corridor
    except ImportError:
        sys.exit("This condgen is not the first edition (it has no module condgen.corridor). Put its checkout first.")
    import condgen

    checkout = Path(condgen.__file__).parents[1]
    os.environ["CONDGEN_MODELS"] = str(checkout / "models")
    torch.set_num_threads(1)
    out.mkdir(parents=True)
    work = Path(tempfile.mkdtemp(prefix="compat-"))
    os.chdir(work)
    make_data(Path("data"))
    runs = make_models_and_runs()
    make_foreign()
    search = json_of(*SEARCH, "--cache", "search-cache")
    make_replay()
    arrays: dict[str, np.ndarray] = {}
    own = {
        item.name: (Path("models", item.name), item.kind, item.labels)
        for item in SPECS
        if Path("models", item.name).exists()
    }
    own |= {n: (Path("models", n), "encoder", None) for n in ("clip-open-clip", "clip-transformers", "clip-paired")}
    bundled = {
        name: (checkout / ("condgen/assets" if name == "scenes32" else "models") / name, kind, labels)
        for name, (kind, labels) in BUNDLED.items()
    }
    expected = {
        "numerics": {"probe": probe(), "torch": torch.__version__, "numpy": np.__version__},
        "models": expect_models(own, arrays, "models"),
        "bundled": expect_models(bundled, arrays, "bundled"),
        "runs": runs,
        "search": {"command": SEARCH, "found": search},
    }
    write(out / "expected.json", expected)
    write(out / "cli.json", make_cli(checkout))
    np.savez_compressed(out / "expected.npz", **arrays)
    for name in ("data", "models", "runs", "embeds", "search-cache", "replay"):
        pack(work / name, out / name)
    shutil.rmtree(work)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
