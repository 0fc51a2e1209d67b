"""Every Trainable and every Decoder of the package, found by looking, keeps its contract."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import condgen
from condgen.baselines import LATENT_NETWORKS
from condgen.baselines.mixture import Mixture
from condgen.baselines.translation import PairedObjective, UnpairedObjective
from condgen.contracts import (
    CondgenError,
    Decoder,
    HasMemory,
    SamplingOption,
    Trainable,
    check_options,
    recorded_options,
    to_json,
)
from condgen.decoders import DECODERS
from condgen.decoders.distillation import DistillationObjective, DistillationTraining
from condgen.decoders.upsampler import UpsamplerObjective, UpsamplerTraining
from condgen.encoders.clip_objective import ClipObjective
from condgen.encoders.selfsup import SelfsupObjective
from condgen.nn.conditioning import DecoderObjective, condition
from condgen.nn.specs import ImageSpec
from condgen.priors import PRIORS
from condgen.priors.unconditional import UnconditionalPrior
from tests.tiny import (
    tiny_backbone,
    tiny_decoder,
    tiny_model,
    tiny_prior,
    tiny_student,
    tiny_translator,
    tiny_upsampler,
)

S = 32
PICTURES = 7
"""Of a data set that is learned by heart; no multiple of a batch."""
WORDS = {"embed_dim": 16, "vocab": tiny_model().tokenizer.vocab, "context": tiny_model().tokenizer.context}
READS = {
    "words": WORDS,
    "image": {"embed_dim": 16},
    "label": {"cardinalities": (3,)},
    "attributes": {"cardinalities": (3, 0, 2)},
}


def classes(method: str) -> list[type]:
    """Concrete modules of the package that have `method` and are defined where they are found."""
    found = []
    for info in pkgutil.walk_packages(condgen.__path__, "condgen."):
        if info.name.split(".")[1] not in ("encoders", "priors", "decoders", "baselines"):
            continue
        module = importlib.import_module(info.name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == info.name and issubclass(cls, torch.nn.Module) and callable(getattr(cls, method, 0)):
                found.append(cls)
    return found


def tiny_latent_network(name: str) -> torch.nn.Module:
    """An untrained network of a kind in LATENT_NETWORKS."""
    options = {
        "autoencoder": {"channels": (8, 16), "latent": 6, "variational": True},
        "gan": {"code": 6, "width": 4, "norm": "batch", "categories": 3, "continuous": 2},
    }
    kind = LATENT_NETWORKS[name]
    return kind.network(kind.config(**options[name]), ImageSpec(32))


def registered(model) -> dict[type, Callable[[], tuple]]:
    """Class of the training of every registered kind -> its arguments."""
    found = {}
    for name, kind in DECODERS.items():
        found[kind.training] = lambda n=name, k=kind: (tiny_decoder(n, WORDS), k.objective(), DecoderObjective())
    for name, kind in PRIORS.items():
        found[kind.training] = lambda n=name: (model.priors[n], model.normalizer)
    for name, kind in LATENT_NETWORKS.items():
        found[kind.training] = lambda n=name, k=kind: (tiny_latent_network(n), k.objective())
    found[UpsamplerTraining] = lambda: (tiny_upsampler(), UpsamplerObjective())
    objective = DistillationObjective()
    found[DistillationTraining] = lambda: (tiny_student(WORDS), tiny_decoder("diffusion", WORDS), objective,
                                           DecoderObjective())  # fmt: skip
    return found


def make(cls: type, model, **others):
    """A training of tiny parts; others than those of registered kinds by the names of their arguments."""
    with torch.random.fork_rng(devices=[]):  # random draws for the parts must not change the weights of the training
        kinds = registered(model)
        if cls in kinds:
            args = kinds[cls]()
        else:
            selfsup = SelfsupObjective(dim=8, hidden=16, queue=PICTURES, temperature=0.1)
            parts = {
                "clip": model.clip, "objective": selfsup if cls.__module__.endswith("selfsup") else ClipObjective(),
                "backbone": tiny_backbone(), "num_images": PICTURES,
                "prior": tiny_prior(), "normalizer": model.normalizer,
                "a_to_b": tiny_translator(), "b_to_a": tiny_translator("resnet"),
                "paired": PairedObjective(critic=8), "unpaired": UnpairedObjective(critic=8, pool=PICTURES),
            } | others  # fmt: skip
            args = tuple(parts[name] for name in inspect.signature(cls).parameters)
    return cls(*args)


def batch(model, n=4):
    torch.manual_seed(0)
    captions = ["a red circle", "a red circle", "two blue squares", "a small green cross"][:n]
    tokens = torch.from_numpy(model.tokenizer.encode(captions))
    ids = torch.tensor([0, 0, 1, 2])[:n]
    unit = torch.nn.functional.normalize(torch.randn(2, n, 16), dim=-1)
    return {
        "image": torch.rand(n, 3, S, S) * 2 - 1, "tokens": tokens, "text_id": ids, "true_ids": ids[:, None],
        "negative_tokens": tokens.flip(0)[:, None], "negative_id": ids.flip(0)[:, None],
        "image_embed": unit[0], "text_embed": unit[1], "z": torch.randn(n, 16),
        "view_1": torch.rand(n, 1, 8, 8) * 2 - 1, "view_2": torch.rand(n, 1, 8, 8) * 2 - 1,
        "low": torch.rand(n, 3, S // 2, S // 2) * 2 - 1,
        "index": torch.arange(n), "noise": torch.randint(PICTURES, (n, 2)),
        "a": torch.rand(n, 3, 16, 16) * 2 - 1, "b": torch.rand(n, 3, 16, 16) * 2 - 1, "dice": torch.rand(n, 4),
    }  # fmt: skip


TRAINABLES = classes("loss")


def test_they_are_found():
    assert set(registered(tiny_model())) <= set(TRAINABLES) and len(TRAINABLES) >= 10
    assert {kind.network for kind in DECODERS.values()} == set(classes("sample"))
    assert {kind.network for kind in PRIORS.values()} == set(classes("draw")) - {
        kind.network for kind in LATENT_NETWORKS.values()
    } - {Mixture, UnconditionalPrior}


@pytest.mark.parametrize("cls", TRAINABLES, ids=lambda c: c.__name__)
class TestTrainable:
    def test_loss_is_a_finite_scalar_with_gradients(self, cls):
        model = tiny_model()
        trainable = make(cls, model).train()
        assert isinstance(trainable, Trainable)
        for turn in trainable.turns:
            parts = trainable.loss(batch(model), turn)
            assert all(value.ndim == 0 and value.isfinite() for value in parts.values())
            parts["loss"].backward()
            grads = [p.grad for p in trainable.parameters_of(turn) if p.grad is not None]
            assert grads and all(g.isfinite().all() for g in grads)
            assert sum(g.abs().sum() for g in grads) > 0

    def test_turns_own_disjoint_parameters(self, cls):
        trainable = make(cls, tiny_model())
        owned = [id(p) for turn in trainable.turns for p in trainable.parameters_of(turn)]
        assert owned and len(owned) == len(set(owned))

    def test_the_batch_is_not_changed(self, cls):
        model = tiny_model()
        given = batch(model)
        kept = {name: value.clone() for name, value in given.items()}
        trainable = make(cls, model)
        trainable.loss(given, trainable.turns[0])
        assert given.keys() == kept.keys()
        assert all(torch.equal(given[name], kept[name]) for name in kept)

    def test_it_can_overfit_one_batch(self, cls):
        model = tiny_model()
        trainable, given = make(cls, model).train(), batch(model)
        turn = trainable.turns[0]
        optimiser = torch.optim.Adam(trainable.parameters_of(turn), 3e-3)
        losses = []
        for step in range(60):
            torch.manual_seed(step % 10)
            loss = trainable.loss(given, turn)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if isinstance(trainable, HasMemory):
                trainable.remember()
            losses.append(loss.item())
        assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def condition_of(reads: str, n: int) -> dict[str, torch.Tensor]:
    """A condition of n equal images."""
    if "cardinalities" in READS[reads]:
        targets = torch.tensor([[2.0, 0.3, 1.0][: len(READS[reads]["cardinalities"])]] * n)
        return {"targets": targets, "has_targets": torch.ones_like(targets, dtype=torch.bool)}
    words = torch.from_numpy(tiny_model().tokenizer.encode(["a red circle"] * n))
    return condition(torch.ones(n, 16), words)


@pytest.mark.parametrize("reads", READS)
@pytest.mark.parametrize("kind", DECODERS)
class TestDecoder:
    def sample(self, kind, reads, seeds, **options):
        decoder = tiny_decoder(kind, READS[reads])
        assert isinstance(decoder, Decoder)
        rng = [torch.Generator().manual_seed(s) for s in seeds]
        return list(decoder.sample(condition_of(reads, len(seeds)), rng, **options))

    @pytest.mark.parametrize("image_channels", [1, 3])
    def test_images_have_shape_and_range(self, kind, reads, image_channels):
        decoder = tiny_decoder(kind, READS[reads] | {"image_channels": image_channels})
        *_, last = frames = list(
            decoder.sample(condition_of(reads, 2), [torch.Generator().manual_seed(s) for s in (0, 1)])
        )
        assert all(f.shape == (2, image_channels, S, S) and f.min() >= -1 and f.max() <= 1 for f in frames)
        steps = {option.name: option.default for option in decoder.sampling_options}.get("steps", 1)
        assert len(frames) == steps and last.std() > 0

    def test_a_seed_names_an_image(self, kind, reads):
        many, one, other = (self.sample(kind, reads, seeds)[-1] for seeds in ([5, 6, 7], [6], [8]))
        torch.testing.assert_close(many[1:2], one, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(one, other, atol=1e-2)

    def test_what_is_said_changes_the_image(self, kind, reads):
        from condgen.nn.conditioning import null_cond

        decoder = tiny_decoder(kind, READS[reads])
        cond = condition_of(reads, 1)
        (*_, one), (*_, other) = (
            list(decoder.sample(c, [torch.Generator().manual_seed(0)])) for c in (cond, null_cond(cond))
        )
        assert not torch.allclose(one, other, atol=1e-3)

    def test_every_option_turns_something(self, kind, reads):
        base = self.sample(kind, reads, [0])[-1]
        for option in tiny_decoder(kind, READS[reads]).sampling_options:
            value = option.low if option.default != option.low else option.high
            changed = self.sample(kind, reads, [0], **{option.name: value})[-1]
            assert not torch.equal(changed, base), f"{option.name} changes nothing"

    def test_an_option_out_of_range_or_unknown_is_refused(self, kind, reads):
        option = tiny_decoder(kind, READS[reads]).sampling_options[-1]
        for wrong in ({option.name: option.high + 1}, {option.name: float("nan")}, {"brightness": 1}):
            with pytest.raises(CondgenError, match=next(iter(wrong))):
                self.sample(kind, reads, [0], **wrong)

    def test_it_trains_on_what_is_said(self, kind, reads):
        """Gradients reach every weight, over a few batches with parts of the condition dropped."""
        decoder = tiny_decoder(kind, READS[reads])
        training = DECODERS[kind].training(decoder, DECODERS[kind].objective(), DecoderObjective()).train()
        n = 8
        given = {"image": torch.rand(n, 3, S, S) * 2 - 1, **condition_of(reads, n)}
        touched = set()
        for step in range(8):
            torch.manual_seed(step)
            for turn in training.turns:
                training.loss(given, turn)["loss"].backward()
            touched |= {name for name, p in decoder.named_parameters() if p.grad is not None and p.grad.any()}
        rows = {name for name, _ in decoder.named_parameters() if "cond_encoder.words.token" in name}
        assert not {name for name, _ in decoder.named_parameters()} - touched - rows


def test_options_fill_in_defaults_and_name_the_range():
    options = (SamplingOption("steps", 12, 1, 20, "int", ""), SamplingOption("w", 2.0, 0, 9, "float", ""))
    assert check_options(options, {"w": 3}) == {"steps": 12, "w": 3.0}
    for bad in ("many", None, -1, 21, 1.5):
        with pytest.raises(CondgenError, match="integer from 1 to 20"):
            check_options(options, {"steps": bad})


def test_a_recipe_leaves_out_added_and_advanced_options_at_their_default():
    declared = (
        SamplingOption("steps", 12, 1, 20, "int", ""),
        SamplingOption("low", 0.0, 0, 1, "float", "", advanced=True),
        SamplingOption("scale", 1.0, 0, 2, "float", "", added=True),
    )
    defaults = check_options(declared, {})
    assert recorded_options(declared, defaults) == {"steps": 12}
    assert recorded_options(declared, defaults | {"scale": 0.5, "low": 0.1}) == defaults | {"scale": 0.5, "low": 0.1}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), np.float64("nan")])
def test_what_is_written_as_json_is_json(bad):
    text = to_json({"a": bad, "b": [1.5, (bad, {"c": bad})], "d": "NaN"}, indent=2)

    def refuse(name: str):
        raise ValueError(name)

    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [1.5, [None, {"c": None}]], "d": "NaN"}


def test_no_json_is_written_past_the_function_that_makes_it_json():
    """Files and results with numbers go through `to_json`; what may use `json.dumps` has no floating-point numbers."""
    plain = {
        *("contracts", "classifier", "checkpoint", "card", "train", "stream", "export", "weights", "gallery"),
        *("convert_tokenizer", "base", "app", "embed", "objects"),
        *("components", "running", "outputs", "parameters"),  # of the studio: page code, stars, a table that is shown
    }
    users = {p.stem for p in Path(condgen.__file__).parent.rglob("*.py") if "json.dumps(" in p.read_text("utf-8")}
    assert users <= plain
