"""The autoregressive prior: quantised principal components, causality, cached sampling, guidance, its training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA
from torch.nn.functional import normalize

from condgen.contracts import CondgenError, CondgenWarning
from condgen.files.weights import load_part, save_part
from condgen.nn.layers import Attention, PerImage
from condgen.nn.specs import TextSpec
from condgen.priors.autoregressive import (
    KEPT,
    KIND,
    AutoregressiveConfig,
    AutoregressivePrior,
    Quantizer,
    choose,
    configure,
    principal_components,
)
from condgen.priors.transformer import EmbeddingNormalizer, EmbeddingSpec
from condgen.recipes import train
from condgen.tasks.generator import PriorsConfig, new_prior
from tests.stopping import two_sittings
from tests.tasks.test_text_to_image import small

D, L, B = 16, 5, 3
SPEC = TextSpec(D, vocab=20, context=L)
TINY = AutoregressiveConfig(width=16, depth=2, heads=2, dims=6, buckets=8)
NORMALIZER = EmbeddingNormalizer(EmbeddingSpec(D, ""))


def embeds(n: int = 400, seed: int = 0) -> dict[str, torch.Tensor]:
    """Unit vectors whose dimensions have falling variances, and texts near them."""
    rng = torch.Generator().manual_seed(seed)
    image = normalize(torch.randn(n, D, generator=rng) * 0.7 ** torch.arange(D) + 0.3, dim=1)
    return {"image_embed": image, "text_embed": normalize(image + 0.1 * torch.randn(n, D, generator=rng), dim=1)}


@pytest.fixture
def prior() -> AutoregressivePrior:
    """A calibrated prior with random weights, in whose logits every token counts."""
    torch.manual_seed(0)
    prior = AutoregressivePrior(TINY, SPEC).eval()
    KIND.calibrate(prior, embeds())
    torch.nn.init.normal_(prior.network.bias, std=0.3)
    torch.nn.init.normal_(prior.network.out.weight, std=0.5)
    return prior


@pytest.fixture
def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Text embeddings (B, D) and tokens (B, L), one caption shorter than the others."""
    tokens = torch.randint(1, 20, (B, L), generator=torch.Generator().manual_seed(1))
    tokens[1, 3:] = 0
    return embeds(B, 2)["text_embed"], tokens


def draw(prior, texts, seeds, **options):
    return prior.draw(*texts, [torch.Generator().manual_seed(seed) for seed in seeds], NORMALIZER, **options)


# Quantisation ---------------------------------------------------------------------------------------------------------


def test_the_components_are_those_of_scikit_learn():
    found = embeds()["image_embed"]
    variance, components = principal_components(found)
    fitted = PCA(D, svd_solver="full").fit(found.double().numpy())
    torch.testing.assert_close(variance, torch.from_numpy(fitted.explained_variance_))
    kept = variance > 1e-10
    signs = (components * torch.from_numpy(fitted.components_)).sum(1)[kept]
    torch.testing.assert_close(signs.abs(), torch.ones_like(signs))
    torch.testing.assert_close(components @ components.T, torch.eye(D, dtype=torch.float64))


@pytest.mark.parametrize("buckets", [2, 8, 64])
def test_a_value_comes_back_within_half_a_bucket_and_a_code_exactly(buckets):
    quantizer, data = Quantizer(D, 6, buckets), embeds()
    quantizer.calibrate(**data)
    codes = quantizer(**data)
    assert codes.shape == (400, 7) and codes.min() == 0 and codes.max() == buckets - 1
    error = (quantizer.centres(codes) - quantizer.values(**data)).abs()
    assert (error <= 0.5001 * quantizer.width + 1e-6).all()
    centres = (quantizer.centres(codes) - quantizer.low) / quantizer.width
    assert torch.equal(centres.floor().long(), codes)
    far = quantizer(10 * data["image_embed"], data["text_embed"])
    assert far.min() >= 0 and far.max() < buckets


def test_enough_components_and_buckets_return_the_embedding():
    data, cosines = embeds(), []
    for dims, buckets in ((2, 64), (8, 64), (D, 64), (D, 2048)):
        quantizer = Quantizer(D, dims, buckets)
        quantizer.calibrate(**data)
        cosines.append((quantizer.back(quantizer(**data)) * data["image_embed"]).sum(1).mean().item())
    assert cosines == sorted(cosines) and cosines[0] < 0.999 < 0.99999 < cosines[-1]


def test_the_number_of_components_keeps_the_variance():
    data = embeds()
    variance, _ = principal_components(data["image_embed"])
    dims = configure(AutoregressiveConfig(), data).dims
    kept = variance.cumsum(0) / variance.sum()
    assert kept[dims - 1] >= KEPT > kept[dims - 2] and 1 < dims < D
    with pytest.warns(CondgenWarning, match=rf"--prior.dims {dims}"):
        assert configure(AutoregressiveConfig(dims=2), data).dims == 2


@pytest.mark.parametrize("n", [1, 3, "equal"])
def test_little_data_is_predicted(n, texts):
    """One embedding, fewer than there are dimensions, and many that are equal."""
    data = embeds(3 if n == "equal" else n)
    if n == "equal":
        data = {name: x[:1].expand(50, -1) for name, x in data.items()}
    made = new_prior("autoregressive", PriorsConfig(width=16, depth=1, heads=2), SPEC, data)
    assert made.config.dims <= max(1, len(data["image_embed"]) - 1)
    codes = made.quantizer(**data)
    torch.testing.assert_close(made.quantizer.back(codes), data["image_embed"], atol=0.1, rtol=0)
    loss = KIND.training(made, NORMALIZER).loss(data | {"tokens": texts[1][:1].expand(len(codes), -1)})["loss"]
    assert loss.isfinite() and draw(made, texts, range(B)).isfinite().all()


# The network ----------------------------------------------------------------------------------------------------------


def test_a_logit_depends_on_the_codes_before_it_alone(prior, texts):
    has_text = torch.tensor([True, True, False])
    codes = torch.randint(8, (B, 6), generator=torch.Generator().manual_seed(3))
    logits = prior.network(*texts, has_text, codes)
    assert logits.shape == (B, 7, 8)
    for place in range(6):
        changed = codes.clone()
        changed[:, place] = (changed[:, place] + 1) % 8
        others = prior.network(*texts, has_text, changed)
        torch.testing.assert_close(others[:, : place + 1], logits[:, : place + 1])
        assert ((others - logits)[:, place + 1 :].abs().amax((1, 2)) > 1e-4).all()


def test_padding_and_a_dropped_caption_are_not_read(prior, texts):
    text_embed, tokens = texts
    codes, yes = torch.zeros(B, 6, dtype=torch.long), torch.ones(B, dtype=torch.bool)
    logits = prior.network(text_embed, tokens, yes, codes)
    changed = prior.network(text_embed.flip(0), tokens.flip(0), yes, codes)
    assert not torch.allclose(changed[0], logits[0], atol=1e-3)
    none, other = (prior.network(*some, ~yes, codes) for some in (texts, (text_embed.flip(0), tokens.flip(0))))
    torch.testing.assert_close(none, other)


def test_sampling_with_the_cache_equals_sampling_without(prior, texts):
    """The code at each place is chosen from the logits of the whole sequence up to it."""
    n, length = 2, 7
    uniform = torch.rand(n, B, length, generator=torch.Generator().manual_seed(4))
    for guidance in (0.0, 1.0, 2.5):
        codes = prior.sample_codes(*texts, uniform, guidance)
        assert codes.shape == (n, B, length)
        yes = torch.ones(B, dtype=torch.bool)
        for own, u in zip(codes, uniform):
            conditional, null = (prior.network(*texts, has, own[:, :-1]) for has in (yes, ~yes))
            assert torch.equal(choose(null + guidance * (conditional - null), u), own)


def test_attention_with_a_cache_is_causal_attention():
    torch.manual_seed(0)
    attention, x, cache = Attention(16, 2), torch.randn(B, 6, 16), []
    steps = torch.cat([attention(x[:, i : i + 1], cache=cache) for i in range(6)], 1)
    torch.testing.assert_close(steps, attention(x, causal=True))
    torch.testing.assert_close(attention(x, torch.ones(B, 6, 6, dtype=torch.bool).tril()), steps)
    assert cache[0].shape == (B, 2, 6, 8)


# Sampling -------------------------------------------------------------------------------------------------------------


def test_codes_are_chosen_with_their_probability():
    logits = torch.tensor([-torch.inf, 0.0, 1.0, -1.0, -torch.inf])
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    counts = choose(logits.expand(10_000, 5), uniform).bincount(minlength=5) / 10_000
    torch.testing.assert_close(counts, logits.softmax(0), atol=2e-4, rtol=0)
    assert choose(logits, torch.tensor(0.0)) == 1 and choose(logits, torch.tensor(1 - 2**-24)) == 3


def test_a_row_depends_on_its_generator_alone(prior, texts):
    z = draw(prior, texts, [5, 6, 7])
    assert z.shape == (B, D) and not torch.equal(draw(prior, texts, [8, 6, 7])[0], z[0])
    for guidance in (1.0, 2.0):
        with PerImage(B):
            many = draw(prior, texts, [5, 6, 7], prior_guidance=guidance)
        for i in range(B):
            row = tuple(x[i : i + 1] for x in texts)
            with PerImage(1):
                assert torch.equal(draw(prior, row, [5 + i], prior_guidance=guidance), many[i : i + 1])


def test_every_option_has_its_effect(prior, texts):
    base = draw(prior, texts, range(B))
    for option in prior.sampling_options:
        value = option.low if option.default != option.low else option.high
        assert not torch.equal(draw(prior, texts, range(B), **{option.name: value}), base), option.name
        with pytest.raises(CondgenError, match=option.name):
            draw(prior, texts, range(B), **{option.name: option.high + 1})
    greedy = [draw(prior, texts, [s, s + 1, s + 2], prior_temperature=0, prior_guidance=2) for s in (0, 10)]
    assert torch.equal(*greedy)


def test_the_similarity_comes_from_the_upper_share(prior, texts):
    rows = tuple(x[:1].expand(400, *x.shape[1:]) for x in texts)
    drawn = {}
    for top in (1.0, 0.5, 0.1):
        uniform = torch.rand(1, 400, 7, generator=torch.Generator().manual_seed(0))
        uniform[..., 0] = 1 - top * (1 - uniform[..., 0])
        drawn[top] = prior.sample_codes(*rows, uniform)[0, :, 0]
    median = drawn[1.0].sort().values[200]
    assert drawn[0.5].min() >= median - 1 and drawn[1.0].min() < drawn[0.5].min() <= drawn[0.1].min()


def test_the_best_of_several_is_more_similar(prior, texts):
    text_embed, _ = texts
    one, many = (
        (normalize(NORMALIZER.back(draw(prior, texts, range(B), best_of=n)), dim=1) * text_embed).sum(1)
        for n in (1, 16)
    )
    assert (many >= one - 1e-6).all() and (many > one + 1e-4).any()


# Training -------------------------------------------------------------------------------------------------------------


def test_it_learns_what_the_text_says(texts):
    """Each of three captions has one image embedding; after training it is drawn for that caption."""
    torch.manual_seed(0)
    data = embeds(B, 5)
    made = new_prior("autoregressive", PriorsConfig(width=32, depth=1, heads=2, buckets=16), SPEC, data)
    training = KIND.training(made, NORMALIZER)
    optimizer = torch.optim.Adam(training.parameters_of("prior"), 1e-2)
    for _ in range(60):
        loss = training.loss({"image_embed": data["image_embed"], "text_embed": texts[0], "tokens": texts[1]})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn = normalize(NORMALIZER.back(draw(made.eval(), texts, range(B))), dim=1)
    assert ((drawn @ data["image_embed"].T).argmax(1) == torch.arange(B)).all()


def test_it_is_saved_and_read_strictly(prior, texts, tmp_path):
    save_part(prior, tmp_path)
    read = load_part(AutoregressivePrior, tmp_path)
    assert read.config == replace(TINY) and torch.equal(draw(read, texts, range(B)), draw(prior, texts, range(B)))
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"dims": 6', '"dims": 7'))
    with pytest.raises(CondgenError, match="quantizer"):
        load_part(AutoregressivePrior, tmp_path)


@pytest.mark.parametrize("wrong", [{"dims": 0}, {"buckets": 1}, {"heads": 3}])
def test_options_that_cannot_be_are_refused_before_training(wrong, tmp_path):
    config = small(prior={"width": 16, "depth": 1, "heads": 2, "kinds": ("regression", "autoregressive")} | wrong)
    with pytest.raises(
        CondgenError, match=f"--prior.{'*' if 'heads' in wrong else next(iter(wrong))}".replace("*", "")
    ):
        train("scenes32", tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_stopped_and_resumed_it_ends_as_it_would_have(tmp_path, monkeypatch):
    first = train("scenes32", tmp_path / "first", small(stage="clip"))
    kinds = {"kinds": ("autoregressive",), "width": 16, "depth": 1, "heads": 2}
    config = small(stage="prior", init_from=str(first), prior=kinds, save_every=0.0)
    runs = two_sittings("scenes32", config, "prior autoregressive", tmp_path, monkeypatch)
    assert len({(run / "parts/prior_autoregressive/model.safetensors").read_bytes() for run in runs}) == 1
    made = load_part(AutoregressivePrior, runs[0] / "parts/prior_autoregressive")
    assert not torch.equal(made.quantizer.components, torch.eye(*made.quantizer.components.shape))
