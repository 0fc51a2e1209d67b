import math

import pytest
import torch
import torch.nn.functional as F

from condgen.losses import (
    adversarial,
    gaussian_nll,
    gradient_penalty,
    info_nce,
    instance_nce,
    instance_softmax,
    kl_normal,
    log_partition,
    nt_xent,
    queue_nce,
    soft_cross_entropy,
    spread,
    weighted_mse,
)


@pytest.fixture
def embeds():
    torch.manual_seed(0)
    return F.normalize(torch.randn(6, 16), dim=1), F.normalize(torch.randn(6, 16), dim=1)


def test_one_positive_is_clips_loss(embeds):
    image, text = embeds
    logits = 10 * image @ text.T
    clip = (F.cross_entropy(logits, torch.arange(6)) + F.cross_entropy(logits.T, torch.arange(6))) / 2
    torch.testing.assert_close(info_nce(image, text, torch.tensor(10.0), torch.eye(6, dtype=torch.bool)), clip)


def test_equal_captions_are_no_negatives(embeds):
    """Two images with one caption: a perfect encoder reaches the entropy of the target, and no gradient is left."""
    one = F.normalize(torch.randn(1, 16), dim=1)
    both = torch.cat([one, one, -one])
    matches = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    both.requires_grad_()
    loss = info_nce(both, both.detach(), torch.tensor(100.0), matches)
    loss.backward()
    assert loss.item() == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    assert both.grad.abs().max() < 1e-3


def test_permuting_the_batch_changes_nothing(embeds):
    image, text = embeds
    matches = torch.rand(6, 6) < 0.3
    matches |= torch.eye(6, dtype=torch.bool)
    order = torch.randperm(6)
    a = info_nce(image, text, torch.tensor(5.0), matches)
    b = info_nce(image[order], text[order], torch.tensor(5.0), matches[order][:, order])
    torch.testing.assert_close(a, b)


def test_a_masked_negative_is_not_there(embeds):
    image, text = embeds
    eye, scale = torch.eye(6, dtype=torch.bool), torch.tensor(5.0)
    plain = info_nce(image, text, scale, eye)
    nothing = info_nce(image, text, scale, eye, image, torch.zeros(6, 6, dtype=torch.bool))
    torch.testing.assert_close(nothing, plain)
    assert info_nce(image, text, scale, eye, image, eye) > plain + 0.1


def test_gradients_are_finite_with_masked_negatives(embeds):
    image, text = (e.clone().requires_grad_() for e in embeds)
    info_nce(image, text, torch.tensor(100.0), torch.eye(6, dtype=torch.bool), text, torch.rand(6, 6) < 0.5).backward()
    assert image.grad.isfinite().all() and text.grad.isfinite().all()


def test_soft_cross_entropy_leaves_out_rows_without_an_answer():
    logits = torch.randn(3, 4)
    targets = torch.zeros(3, 4, dtype=torch.bool)
    targets[0, 1] = True
    torch.testing.assert_close(soft_cross_entropy(logits, targets), F.cross_entropy(logits[:1], torch.tensor([1])))


def test_weighted_mse_is_mse_at_weight_one():
    a, b = torch.randn(5, 3, 4), torch.randn(5, 3, 4)
    torch.testing.assert_close(weighted_mse(a, b, torch.ones(5)), F.mse_loss(a, b))


def test_kl_and_likelihood_are_those_of_torch_distributions():
    torch.manual_seed(0)
    mean, log_var, x = torch.randn(5, 7), torch.randn(5, 7), torch.randn(5, 7)
    log_sigma = torch.tensor(-0.3)
    own = torch.distributions.Normal(mean, (log_var / 2).exp())
    kl = torch.distributions.kl_divergence(own, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_normal(mean, log_var), kl)
    other_mean, other_log_var = torch.randn(2, 5, 7)
    kl = torch.distributions.kl_divergence(own, torch.distributions.Normal(other_mean, (other_log_var / 2).exp()))
    torch.testing.assert_close(kl_normal(mean, log_var, other_mean, other_log_var), kl)
    nll = -torch.distributions.Normal(mean, log_sigma.exp()).log_prob(x).sum(1).mean()
    torch.testing.assert_close(gaussian_nll(mean, x, log_sigma), nll)


@pytest.mark.parametrize("kind", ["rp", "ns", "hinge"])
def test_players_want_opposite_things(kind):
    """The critic's loss falls as real ones rise above fakes, the generator's falls as fakes rise."""
    real, fake = torch.tensor([1.5, 0.5]), torch.tensor([-1.0, 0.2], requires_grad=True)
    (for_critic,) = torch.autograd.grad(adversarial(kind, real, fake, "discriminator"), fake)
    (for_generator,) = torch.autograd.grad(adversarial(kind, real, fake, "generator"), fake)
    assert (for_critic[1] > 0) and (for_generator < 0).all()


def test_the_classic_game_is_binary_cross_entropy():
    torch.manual_seed(0)
    real, fake = torch.randn(2, 9)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones(9)) + bce(fake, torch.zeros(9))
    torch.testing.assert_close(adversarial("ns", real, fake, "discriminator"), expected)
    torch.testing.assert_close(adversarial("ns", real, fake, "generator"), bce(fake, torch.ones(9)))


def test_the_penalty_is_the_squared_slope():
    """Of a linear critic w . x it is |w|^2, whatever the images."""
    torch.manual_seed(0)
    w, images = torch.randn(3, 4, 4), torch.randn(6, 3, 4, 4, requires_grad=True)
    torch.testing.assert_close(gradient_penalty((images * w).flatten(1).sum(1), images), w.pow(2).sum())


# self-supervision


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_nt_xent_is_its_definition(temperature):
    """Chen et al., Eq. 1, view by view and pair by pair."""
    torch.manual_seed(0)
    z_1, z_2 = F.normalize(torch.randn(2, 5, 8), dim=2).double()
    views, total = [*z_1, *z_2], 0.0
    for i, z in enumerate(views):
        other = (i + 5) % 10
        rest = sum(math.exp(float(z @ v) / temperature) for k, v in enumerate(views) if k != i)
        total += -math.log(math.exp(float(z @ views[other]) / temperature) / rest)
    assert nt_xent(z_1, z_2, temperature).item() == pytest.approx(total / 10, rel=1e-6)
    torch.testing.assert_close(nt_xent(z_2, z_1, temperature), nt_xent(z_1, z_2, temperature))


def test_a_query_is_pushed_from_the_queue_but_not_from_itself():
    torch.manual_seed(0)
    query, key = F.normalize(torch.randn(2, 3, 8), dim=2)
    queue = F.normalize(torch.randn(6, 8), dim=1)
    total = 0.0
    for q, k in zip(query, key):
        right, wrong = math.exp(float(q @ k) / 0.2), sum(math.exp(float(q @ w) / 0.2) for w in queue)
        total -= math.log(right / (right + wrong)) / 3
    assert queue_nce(query, key, queue, 0.2).item() == pytest.approx(total, rel=1e-5)
    same = torch.zeros(3, 6, dtype=torch.bool)
    same[:, 4:] = True
    torch.testing.assert_close(queue_nce(query, key, queue, 0.2, same), queue_nce(query, key, queue[:4], 0.2))


@pytest.fixture
def bank():
    torch.manual_seed(0)
    return F.normalize(torch.randn(4, 8), dim=1), F.normalize(torch.randn(50, 8), dim=1), torch.tensor([3, 0, 49, 7])


def test_instance_discrimination_is_a_classifier_whose_weights_are_the_bank(bank):
    features, rows, index = bank
    classifier = torch.nn.Linear(8, 50, bias=False)
    classifier.weight.data = rows / 0.1
    expected = torch.nn.CrossEntropyLoss()(classifier(features), index)
    torch.testing.assert_close(instance_softmax(features, rows, index, 0.1), expected)


def test_noise_contrast_with_the_exact_partition_is_its_definition(bank):
    """Wu et al., Eqs. 4 to 7, image by image."""
    features, rows, index = bank
    noise, m, n = torch.tensor([1, 3, 3, 20, 41]), 5, 50
    scores = (features @ rows.T / 0.1).exp()
    z = scores.sum(1).mean().item()

    def h(i: int, v: int) -> float:
        p = scores[v, i].item() / z
        return p / (p + m / n)

    losses = [-math.log(h(index[v], v)) - sum(math.log(1 - h(i, v)) for i in noise) for v in range(4)]
    log_z = log_partition(features, rows, 0.1, n)  # drawn once each, the estimate is exact
    assert log_z.item() == pytest.approx(math.log(z), rel=1e-5)
    assert instance_nce(features, rows, index, noise, 0.1, log_z).item() == pytest.approx(sum(losses) / 4, rel=1e-4)


def test_noise_contrast_finds_the_softmax_with_enough_noise(bank):
    """With the whole bank drawn many times over, its gradient is that of the exact softmax with these partitions."""
    features, rows, index = bank
    f = features[:1].clone().requires_grad_()
    log_z = torch.logsumexp(features[:1] @ rows.T / 0.1, 1)[0]
    (by_noise,) = torch.autograd.grad(instance_nce(f, rows, index[:1], torch.arange(50).repeat(400), 0.1, log_z), f)
    (exact,) = torch.autograd.grad(instance_softmax(f, rows, index[:1], 0.1), f)
    torch.testing.assert_close(by_noise, exact, rtol=0.01, atol=0.01)


def test_spread_is_nothing_in_a_point_and_one_all_around():
    torch.manual_seed(0)
    assert spread(F.normalize(torch.ones(9, 16), dim=1)) < 1e-6
    assert spread(F.normalize(torch.randn(4000, 16), dim=1)).item() == pytest.approx(1, abs=0.02)
