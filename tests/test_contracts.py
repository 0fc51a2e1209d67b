"""Every Trainable and every Decoder of the package, found by looking, keeps its contract."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import condgen
from condgen.contracts import CondgenError, Decoder, Knob, Trainable, check_knobs
from condgen.nn.conditioning import condition
from tests.tiny import tiny_model

S = 32


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


def make(cls: type, model):
    """Builds a class from the parts of a model, by the names of its arguments."""
    from condgen.decoders.diffusion import DecoderObjective
    from condgen.encoders.training import ClipObjective

    kind = "diffusion" if "Diffusion" in cls.__name__ else "regression"
    objective = ClipObjective() if "Clip" in cls.__name__ else DecoderObjective()
    parts = {
        "clip": model.clip, "decoder": model.decoder, "normaliser": model.normaliser, "prior": model.priors[kind],
        "objective": objective, "config": model.decoder.config,
    }  # fmt: skip
    return cls(*(parts[name] for name in inspect.signature(cls).parameters))


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
    }  # fmt: skip


TRAINABLES, DECODERS = classes("parameters_of"), classes("denoise")


def test_they_are_found():
    assert len(TRAINABLES) >= 4 and len(DECODERS) >= 1


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
            losses.append(loss.item())
        assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize("cls", DECODERS, ids=lambda c: c.__name__)
class TestDecoder:
    def sample(self, cls, seeds, **knobs):
        model = tiny_model()
        decoder = make(cls, model).eval()
        decoder.load_state_dict(model.decoder.state_dict())
        assert isinstance(decoder, Decoder)
        n = len(seeds)
        words = torch.from_numpy(model.tokenizer.encode(["a red circle"] * n))
        z = torch.ones(n, 16)
        return list(decoder.sample(condition(z, words), [torch.Generator().manual_seed(s) for s in seeds], **knobs))

    def test_pictures_have_shape_and_range(self, cls):
        frames = self.sample(cls, [0, 1], steps=3)
        assert len(frames) == 3
        assert all(f.shape == (2, 3, S, S) and f.min() >= -1 and f.max() <= 1 for f in frames)

    def test_a_seed_names_a_picture(self, cls):
        many, one, other = (self.sample(cls, seeds, steps=2)[-1] for seeds in ([5, 6, 7], [6], [8]))
        torch.testing.assert_close(many[1:2], one, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(one, other, atol=1e-2)

    def test_every_knob_turns_something(self, cls):
        decoder = make(cls, tiny_model())
        base = self.sample(cls, [0])[-1]
        for knob in decoder.knobs:
            turned = self.sample(cls, [0], **{knob.name: knob.low if knob.default != knob.low else knob.high})[-1]
            assert not torch.equal(turned, base), f"{knob.name} changes nothing"

    def test_a_knob_out_of_range_or_unknown_is_refused(self, cls):
        for wrong in ({"steps": 0}, {"steps": 2.5}, {"guidance": float("nan")}, {"brightness": 1}):
            with pytest.raises(CondgenError, match=next(iter(wrong))):
                self.sample(cls, [0], **wrong)


def test_knobs_fill_in_defaults_and_name_the_range():
    knobs = (Knob("steps", 12, 1, 20, "int", ""), Knob("w", 2.0, 0, 9, "float", ""))
    assert check_knobs(knobs, {"w": 3}) == {"steps": 12, "w": 3.0}
    for bad in ("many", None, -1, 21, 1.5):
        with pytest.raises(CondgenError, match="integer from 1 to 20"):
            check_knobs(knobs, {"steps": bad})
