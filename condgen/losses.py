"""Pure maths: tensors in, scalars out. No weights, no data, no state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy to several right answers, each weighted alike.

    Args:
        logits: (B, K).
        targets: bool (B, K), the right answers of every row; rows with none are left out of the mean.
    """
    weights = targets.float()
    count = weights.sum(1)
    loss = -(weights * F.log_softmax(logits, 1)).sum(1) / count.clamp(min=1)
    return loss.sum() / (count > 0).sum().clamp(min=1)


def info_nce(
    image_embed: Tensor,
    text_embed: Tensor,
    scale: Tensor,
    matches: Tensor,
    negative_embed: Tensor | None = None,
    negative_ok: Tensor | None = None,
) -> Tensor:
    """Symmetric contrastive loss with several positives a row.

    Equal captions in one batch are no negatives of each other: `matches` says which texts are true of which image,
    and the target is uniform over them. With one match a row this is CLIP's loss.

    Args:
        image_embed: unit length, (B, D).
        text_embed: unit length, (B, D).
        scale: inverse temperature, scalar.
        matches: bool (B, B), [i, j] whether text j is true of image i.
        negative_embed: (K, D), texts that are offered to the images only, as further wrong answers.
        negative_ok: bool (B, K), whether negative k may be held against image i (it may be true of it).

    References:
        Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        Supervised Contrastive Learning (Khosla et al., 2020), for several positives
        When and why vision-language models behave like bags-of-words (Yuksekgonul et al., 2023), for swapped captions
    """
    logits = scale * image_embed @ text_embed.T  # (B, B)
    text_to_image = soft_cross_entropy(logits.T, matches.T)
    if negative_embed is not None and negative_ok is not None and negative_embed.numel():
        hard = (scale * image_embed @ negative_embed.T).masked_fill(~negative_ok, float("-inf"))
        logits = torch.cat([logits, hard], 1)
        matches = torch.cat([matches, torch.zeros_like(negative_ok)], 1)
        logits = logits.masked_fill(torch.isinf(logits), torch.finfo(logits.dtype).min / 2)
    return (soft_cross_entropy(logits, matches) + text_to_image) / 2


def siglip(
    image_embed: Tensor,
    text_embed: Tensor,
    scale: Tensor,
    bias: Tensor,
    matches: Tensor,
    negative_embed: Tensor | None = None,
    negative_ok: Tensor | None = None,
) -> Tensor:
    """Every pair of an image and a text is a question of its own: do they match? A sum over texts, a mean over
    images.

    Args:
        image_embed, text_embed, scale, matches, negative_embed, negative_ok: as for `info_nce`.
        bias: added to the logits, scalar; most pairs do not match, and it starts by saying so.

    References:
        Sigmoid Loss for Language Image Pre-Training (Zhai et al., 2023)
    """
    logits = scale * image_embed @ text_embed.T + bias  # (B, B)
    loss = F.softplus(torch.where(matches, -logits, logits)).sum()
    if negative_embed is not None and negative_ok is not None and negative_embed.numel():
        hard = scale * image_embed @ negative_embed.T + bias
        loss = loss + (F.softplus(hard) * negative_ok).sum()
    return loss / len(image_embed)


def info_nce_floor(matches: Tensor, same: Tensor) -> Tensor:
    """What `info_nce` cannot fall below for a batch: ln of how many answers look alike, mean over rows and columns.

    A perfect encoder of ten classes still has a loss of some nats; a loss of 0 asks for texts that all differ.

    Args:
        matches: bool (B, B), see `info_nce`.
        same: bool (B, B), whether texts i and j are equal: they have one embedding, whatever is matched.
    """
    alike = matches | same
    rows, columns = alike.sum(1).float(), alike.sum(0).float()
    return (rows.log().mean() + columns.log().mean()) / 2


def siglip_floor(matches: Tensor, same: Tensor) -> Tensor:
    """What `siglip` cannot fall below: equal texts of which only some match an image are told apart by nobody.

    Args:
        matches, same: see `info_nce_floor`.
    """
    count = same.sum(1).float()
    share = 1 / count  # of the texts equal to its own, one matches an image, or all of them do
    entropy = -(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share))
    whole = (matches | ~same).all(1)
    return (count * entropy).masked_fill(whole, 0.0).mean()


def weighted_mse(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of weight_b times the mean squared error of sample b.

    Args:
        predicted: (B, ...). target: (B, ...). weight: (B,).
    """
    return (weight * (predicted - target).pow(2).flatten(1).mean(1)).mean()


def gaussian_nll(mean: Tensor, target: Tensor, log_sigma: Tensor, each: bool = False) -> Tensor:
    """Negative log likelihood of a normal, in nats, summed over everything but the batch and averaged over that.

    Args:
        mean: (B, ...). target: (B, ...). log_sigma: scalar, or anything that broadcasts.
        each: gives that of every sample, (B,), in place of the mean.
    """
    scaled = (target - mean) * (-log_sigma).exp()
    nll = (scaled.pow(2) / 2 + log_sigma + math.log(2 * math.pi) / 2).flatten(1).sum(1)
    return nll if each else nll.mean()


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log likelihood of independent coins, in nats, summed over everything but the batch: (B,).

    Args:
        logits: (B, ...). target: (B, ...) in [0, 1]; between 0 and 1 it is the cross-entropy to a chance.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def kl_normal(mean: Tensor, log_var: Tensor, prior_mean: Tensor | float = 0.0, prior_log_var: Tensor | float = 0.0):
    """KL divergence of N(mean, exp log_var) from a prior, N(0, 1) by default, in nats, element by element: (B, D)."""
    apart = log_var - prior_log_var
    distance = (mean - prior_mean).pow(2) * torch.exp(-torch.as_tensor(prior_log_var))
    return (distance + apart.exp() - 1 - apart) / 2


def adversarial(kind: str, real: Tensor, fake: Tensor, turn: str) -> Tensor:
    """The loss of one turn of the game, from logits.

    Args:
        kind: `rp`, relativistic and paired: each real one is held against a fake of the same condition; `ns`, the
            classic that does not saturate; `hinge`; `ls`, least squares to 1 for real and to 0 for painted.
        real, fake: (B,) logits; but for `rp` the generator's turn looks at `fake` alone.
        turn: `discriminator` or `generator`.

    References:
        The relativistic discriminator (Jolicoeur-Martineau, 2019); The GAN is dead; long live the GAN! (Huang et al.,
        2024), for `rp`
        Generative Adversarial Nets (Goodfellow et al., 2014), for `ns`
        Geometric GAN (Lim, Ye, 2017), for `hinge`
        Least Squares Generative Adversarial Networks (Mao et al., 2017), for `ls`

    Raises:
        ValueError: there is no such kind.
    """
    mine = turn == "discriminator"
    if kind == "rp":
        return F.softplus(fake - real if mine else real - fake).mean()
    if kind == "ns":
        return F.softplus(-real).mean() + F.softplus(fake).mean() if mine else F.softplus(-fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean() if mine else -fake.mean()
    if kind == "ls":
        return (real - 1).pow(2).mean() + fake.pow(2).mean() if mine else (fake - 1).pow(2).mean()
    raise ValueError(f"there is no adversarial loss {kind!r}; choose rp, ns, hinge or ls")


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared length of the gradient of a discriminator's logits by the images: R1 on real ones, R2 on fakes.

    Args:
        logits: (B,), computed from `images` with a graph.
        images: (B, C, H, W), with `requires_grad`.

    References:
        Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
    """
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return slope.float().pow(2).flatten(1).sum(1).mean()


def nt_xent(z_1: Tensor, z_2: Tensor, temperature: float) -> Tensor:
    """Normalised cross-entropy of two views: each view must find the other of its image among all views but itself.

    Args:
        z_1, z_2: unit length, (B, D); row i of both is of image i.

    References:
        A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020)
    """
    z = torch.cat([z_1, z_2])
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z_1)))


def queue_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float, same: Tensor | None = None) -> Tensor:
    """Each query must find its key among keys of other images that were kept from before.

    Args:
        query, key: unit length, (B, D); row i of both is of image i.
        queue: unit length, (K, D).
        same: bool (B, K), whether key k of the queue is of image i itself, and so no wrong answer.

    References:
        Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020)
    """
    wrong = query @ queue.T
    if same is not None:
        wrong = wrong.masked_fill(same, float("-inf"))
    logits = torch.cat([(query * key).sum(1, keepdim=True), wrong], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def instance_softmax(features: Tensor, bank: Tensor, index: Tensor, temperature: float) -> Tensor:
    """Every image a class of its own, whose weight is what the bank keeps of it: cross-entropy over all images.

    Args:
        features: unit length, (B, D).
        bank: unit length, (N, D).
        index: int64 (B,), the rows of the bank that are these images'.

    References:
        Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al., 2018), Eq. 2
    """
    return F.cross_entropy(features @ bank.T / temperature, index)


def instance_nce(
    features: Tensor, bank: Tensor, index: Tensor, noise: Tensor, temperature: float, log_z: Tensor
) -> Tensor:
    """The same from a sample of the bank: each image's own row is told from rows drawn at random (noise contrast).

    P(i | v) = exp(v . bank_i / temperature) / Z, and h = P / (P + M / N) is the chance that row i is the image's own
    and not one of the M drawn; the loss is -log h of the own row less the sum of log (1 - h) over those drawn.

    Args:
        features, bank, index: as for `instance_softmax`.
        noise: int64 (M,), rows of the bank drawn evenly, the same for all images.
        log_z: scalar, the logarithm of Z; see `log_partition`.

    References:
        Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al., 2018), Eqs. 4 to 7
    """
    chance = math.log(len(noise) / len(bank))
    own = (features * bank[index]).sum(1) / temperature - log_z - chance
    drawn = features @ bank[noise].T / temperature - log_z - chance
    return -(F.logsigmoid(own) + F.logsigmoid(-drawn).sum(1)).mean()


def log_partition(features: Tensor, some: Tensor, temperature: float, pictures: int) -> Tensor:
    """Estimates log Z of `instance_nce` from rows of the bank drawn evenly, (M, D), averaged over the features."""
    logits = features @ some.T / temperature
    return torch.logsumexp(logits.flatten(), 0) - math.log(logits.numel()) + math.log(pictures)


def spread(z: Tensor) -> Tensor:
    """How far unit vectors (B, D) lie apart: their sd over sqrt(1 / D). 0 is a collapse, 1 evenly about.

    References:
        Exploring Simple Siamese Representation Learning (Chen, He, 2021), section 4.1
    """
    return z.std(0, correction=0).mean() * math.sqrt(z.shape[1])
