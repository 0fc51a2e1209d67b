"""Autoencoders: likelihoods against torch's, the linear one against scikit-learn's PCA, what rises, what is noise."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture
from torch.distributions import Bernoulli, Normal, kl_divergence

import condgen as front
from condgen.baselines.autoencoders import (
    Autoencoder,
    AutoencoderConfig,
    AutoencoderObjective,
    AutoencoderTraining,
    corrupt,
)
from condgen.baselines.mixture import fit_mixture
from condgen.contracts import CondgenError, Latent
from condgen.data.batches.base import held_out, to_float
from condgen.data.sources.open_images import open_any
from condgen.evaluation import evaluate
from condgen.losses import bernoulli_nll, gaussian_nll, kl_normal
from condgen.nn.specs import ImageSpec
from condgen.pipelines.latent import LatentModel
from condgen.recipes import RECIPES, train
from tests.stopping import two_sittings

SMALL = {"hidden": (16,), "channels": (8,), "latent": 4}


def net(size=8, image_channels=1, seed=0, **shape) -> Autoencoder:
    torch.manual_seed(seed)
    return Autoencoder(AutoencoderConfig(**SMALL | shape), ImageSpec(size, image_channels)).eval()


def pictures(n=6, image_channels=1, size=8) -> torch.Tensor:
    return torch.rand(n, image_channels, size, size, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_likelihoods_and_divergence_are_those_of_torch_distributions():
    x, mean, log_sigma = pictures(), pictures(6) * 0.5, torch.tensor(-0.7)
    of_torch = -Normal(mean, log_sigma.exp()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(gaussian_nll(mean, x, log_sigma, each=True), of_torch)
    torch.testing.assert_close(gaussian_nll(mean, x, log_sigma), of_torch.mean())
    white = (x > 0).float()
    torch.testing.assert_close(
        bernoulli_nll(3 * mean, white), -Bernoulli(logits=3 * mean).log_prob(white).flatten(1).sum(1)
    )
    m, v = torch.randn(5, 4), torch.randn(5, 4)
    torch.testing.assert_close(kl_normal(m, v), kl_divergence(Normal(m, (v / 2).exp()), Normal(0.0, 1.0)))


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_the_loss_of_a_vae_is_the_bound_by_torch_distributions(likelihood):
    own = net(variational=True, likelihood=likelihood, sigma="fixed", fixed=0.3)
    x = (pictures() > 0).float() * 2 - 1
    torch.manual_seed(5)
    told = AutoencoderTraining(own, AutoencoderObjective(beta=2.0)).loss({"image": x})
    torch.manual_seed(5)
    mean, log_var = own.posterior(x)
    z = mean + (log_var / 2).exp() * torch.randn_like(mean)
    picture = own.decode(z)
    pixel = Normal(picture, 0.3) if likelihood == "gaussian" else Bernoulli((picture + 1) / 2)
    seen = x if likelihood == "gaussian" else (x + 1) / 2
    nll = -pixel.log_prob(seen).flatten(1).sum(1).mean()
    kl = kl_divergence(Normal(mean, (log_var / 2).exp()), Normal(0.0, 1.0)).sum(1).mean()
    torch.testing.assert_close(told["loss"] * 64, nll + 2 * kl, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(-own.log_likelihood(x, z).mean(), nll, rtol=1e-4, atol=1e-3)


def test_an_optimal_sigma_is_the_root_of_the_mean_squared_error_and_no_other_is_likelier():
    own = net(variational=True)
    x = pictures()
    training = AutoencoderTraining(own, AutoencoderObjective(beta=0.0)).eval()
    torch.manual_seed(1)
    best = training.loss({"image": x})
    sigma = best["mse"].sqrt()
    torch.manual_seed(1)
    for factor in (0.9, 1.1):
        other = AutoencoderTraining(
            net(variational=True, sigma="fixed", fixed=float(sigma) * factor), training.objective
        )
        torch.manual_seed(1)
        assert other.loss({"image": x})["loss"] > best["loss"]
    training.train()
    for _ in range(600):
        torch.manual_seed(1)
        training.loss({"image": x})
    torch.testing.assert_close(own.log_sigma.exp(), sigma, rtol=0.01, atol=0)  # what is kept for later is the same


@pytest.mark.parametrize("body", ["linear", "mlp", "conv"])
@pytest.mark.parametrize("size, image_channels", [(8, 1), (28, 1), (32, 3), (64, 3)])
def test_every_body_takes_every_size(body, size, image_channels):
    own = net(size, image_channels, body=body, variational=True)
    x = pictures(2, image_channels, size)
    assert own.encode(x).shape == (2, 4) and own.decode(own.encode(x)).shape == x.shape


def test_the_linear_one_finds_what_pca_finds(tmp_path):
    """Subspace and error; the axes are nobody's."""
    base = RECIPES["digits-linear"].config()
    folder = train("digits-linear", tmp_path / "run", replace(base, eval_count=1, total_images=200_000))
    own = front.load(folder).net
    data = open_any("digits")
    x = to_float(data.rows(held_out(len(data), 20, 2000, 0)[0]).images)
    pca = PCA(own.config.latent, svd_solver="full").fit(x.flatten(1).double().numpy())
    angles = subspace_angles(own.decoder.map.weight.detach().double().numpy(), pca.components_.T)
    assert angles.max() < 1e-2
    back = pca.inverse_transform(pca.transform(x.flatten(1).double().numpy()))
    least = ((back - x.flatten(1).numpy()) ** 2).mean()
    assert least <= (own.decode(own.encode(x)) - x).square().mean().item() * (1 + 1e-5) < 1.001 * least * (1 + 1e-5)


def test_noise_is_of_the_kind_and_strength_asked_for():
    x = pictures(200, 3)
    torch.manual_seed(0)
    added = corrupt(x, AutoencoderObjective(noise="gaussian", strength=0.25)) - x
    assert abs(added.std() - 0.25) < 0.005 and abs(added.mean()) < 0.005
    masked = corrupt(x, AutoencoderObjective(noise="masking", strength=0.4))
    black = (masked == -1).all(1)
    assert abs(black.float().mean() - 0.4) < 0.02 and torch.equal(
        masked.movedim(1, -1)[~black], x.movedim(1, -1)[~black]
    )
    assert corrupt(x, AutoencoderObjective()) is x


def test_a_denoising_autoencoder_gets_the_noisy_image_and_predicts_the_clean_one():
    own = net(body="linear", latent=64)
    with torch.no_grad():  # the identity
        own.encoder.map.weight.copy_(torch.eye(64))
        own.decoder.map.weight.copy_(torch.eye(64))
        own.decoder.map.bias.zero_()
    training = AutoencoderTraining(own, AutoencoderObjective(noise="gaussian", strength=0.5))
    assert abs(training.loss({"image": pictures(500)})["mse"] - 0.25) < 0.01  # the noise, for nothing takes it away


def test_beta_and_capacity_rise_over_images():
    x = {"image": pictures(10)}
    training = AutoencoderTraining(net(variational=True), AutoencoderObjective(warmup=100))
    costs = []
    for _ in range(12):
        torch.manual_seed(0)
        told = training.train().loss(x)
        costs.append(((told["loss"] * 64 - told["nll"]) / told["kl"]).item())
    np.testing.assert_allclose(costs, [*np.arange(0.1, 1.01, 0.1), 1, 1], atol=1e-3)
    training = AutoencoderTraining(
        net(variational=True), AutoencoderObjective(capacity=20.0, capacity_over=100, gamma=3.0)
    )
    for seen in (10, 20):
        torch.manual_seed(0)
        told = training.train().loss(x)
        wanted = 3 * abs(told["kl"].item() - 20 * seen / 100)
        assert abs((told["loss"] * 64 - told["nll"]).item() - wanted) < 1e-2


def test_black_and_white_is_drawn_with_the_brightness_as_chance():
    own = net(likelihood="bernoulli", binary=True, variational=True)
    grey = torch.full((500, 1, 8, 8), 0.5)
    drawn = own.binarized(grey, torch.Generator().manual_seed(0))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0} and abs((drawn > 0).float().mean() - 0.75) < 0.01
    assert torch.equal(drawn, own.binarized(grey, torch.Generator().manual_seed(0)))


def test_a_mixture_is_that_of_scikit_learn_and_draws_what_it_was_fitted_to():
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal((0, 5), 0.5, (600, 2)), rng.normal((4, 0), 1.0, (300, 2))])
    mixture = fit_mixture(torch.from_numpy(codes), 2)
    of_sklearn = GaussianMixture(2, random_state=0).fit(codes)
    points = torch.from_numpy(codes[::50]).float()
    np.testing.assert_allclose(mixture.log_prob(points), of_sklearn.score_samples(codes[::50]), atol=0.02)
    drawn = mixture.draw([torch.Generator().manual_seed(i) for i in range(2000)]).numpy()
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), atol=0.4)
    assert len(fit_mixture(torch.randn(9, 2), 10).weights) <= 2  # few codes carry few normals


def small(kind="vae", **changes):
    c = RECIPES[f"digits-{kind}"].config()
    shape = replace(c.autoencoder, **SMALL)
    return replace(c, **{"eval_count": 2, "total_images": 512, "components": 2, "autoencoder": shape} | changes)


@pytest.mark.parametrize("kind", ["ae", "conv-ae", "dae", "vae", "conv-vae", "beta-vae"])
def test_a_run_leaves_a_model_that_codes_decodes_and_draws(kind, tmp_path):
    folder = train(f"digits-{kind}", tmp_path / "run", small(kind))
    model = front.load(folder)
    assert isinstance(model, LatentModel) and isinstance(model, Latent)
    assert model.variational == kind.endswith("vae") and model.encodes and model.latent == 4
    x = to_float(open_any("digits", split="test").images)
    z = model.encode(x)
    assert z.shape == (len(x), 4) and model.decode(z).shape == x.shape
    both, one = model.sample([5, 6]), model.sample([6])
    torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-3
    model.save(tmp_path / "copy")
    again = LatentModel.load(tmp_path / "copy")
    assert torch.equal(again.encode(x), z) and torch.equal(again.sample([6]), one) and again.about == model.about
    assert list((tmp_path / "run" / "samples").glob("*.png")) and "Command" in (folder / "README.md").read_text()


def test_stopped_in_the_middle_it_ends_where_it_would_have(tmp_path, monkeypatch):
    whole, halves = two_sittings("digits-vae", small(), "autoencoder", tmp_path, monkeypatch)
    assert len({(f / "autoencoder" / "model.safetensors").read_bytes() for f in (whole, halves)}) == 1


def test_a_plain_one_without_a_mixture_draws_nothing(tmp_path):
    model = front.load(train("digits-ae", tmp_path / "run", small("ae", components=0)))
    with pytest.raises(CondgenError, match="no mixture"):
        model.sample([0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"autoencoder": AutoencoderConfig(latent=0)}, "--autoencoder"),
        ({"autoencoder": AutoencoderConfig(channels=(8, 8, 8, 8))}, "halved 4 times"),
        ({"autoencoder": AutoencoderConfig(binary=True)}, "bernoulli"),
        ({"objective": AutoencoderObjective(noise="masking", strength=1.5)}, "--objective.strength"),
        ({"objective": AutoencoderObjective(beta=-1.0)}, "--objective.beta"),
        ({"components": -1}, "--components"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(changes, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        train("digits-vae", tmp_path / "run", small(**changes))
    assert not (tmp_path / "run").exists()


def test_a_class_is_left_out_of_training_alone(tmp_path):
    c = small("ae")
    c = replace(c, data=replace(c.data, exclude_classes="3, 4"))
    model = front.load(train("digits-ae", tmp_path / "run", c))
    report = evaluate(model, out=tmp_path / "report")
    counts = {name: line.get("N") for name, line in report["reconstruction"].items()}
    labels = open_any("digits", split="train").labels
    assert counts["training images"] == (~np.isin(labels, (3, 4))).sum()
    assert counts[model.name] == len(open_any("digits", split="test"))
    with pytest.raises(CondgenError, match="has no value"):
        open_any("digits", exclude_classes="eleven")


def test_the_evaluator_tells_what_comes_back_beside_pca_and_how_likely_it_is(tmp_path):
    model = front.load(train("digits-vae", tmp_path / "run", small(total_images=4000)))
    report = evaluate(model, out=tmp_path / "report", importance_samples=20)
    rows = report["reconstruction"]
    assert rows["PCA, 4 components"]["PSNR"] > rows[model.name]["PSNR"] > 5  # after so little training
    line = report["likelihood_in_nats"][model.name]
    assert line["NLL, importance-weighted"] < line["bound"] == pytest.approx(line["distortion"] + line["kl"], rel=1e-3)
    assert json.loads((tmp_path / "report" / "report.json").read_text())["kind"] == "unconditional"
    assert (tmp_path / "report" / "sheet.png").exists()
