"""Losses as functions of tensors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy to a uniform distribution over several positives.

    Args:
        logits: (B, K).
        targets: bool (B, K), the positives of every row; rows without positives are left out of the mean.
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
    """Symmetric contrastive loss with several positives a row; with one positive a row it is CLIP's loss.

    Equal captions in a batch are not negatives of each other: the target is uniform over all matching texts.

    Args:
        image_embed: unit length, (B, D).
        text_embed: unit length, (B, D).
        scale: inverse temperature, scalar.
        matches: bool (B, B); [i, j] is true where text j matches image i.
        negative_embed: (K, D), texts that are further negatives of the images.
        negative_ok: bool (B, K); [i, k] is true where text k is a negative of image i, false where it may match it.

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
    """Binary classification of every pair of an image and a text; a sum over texts, a mean over images.

    Args:
        image_embed, text_embed, scale, matches, negative_embed, negative_ok: as for `info_nce`.
        bias: added to the logits, scalar; initialised to the negative log odds of a match.

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
    """The smallest possible `info_nce` of a batch: the mean of ln of the number of indistinguishable answers over rows
    and columns. It is 0 only where all texts differ.

    Args:
        matches: bool (B, B), see `info_nce`.
        same: bool (B, B); [i, j] is true where texts i and j are equal, and so have one embedding.
    """
    alike = matches | same
    rows, columns = alike.sum(1).float(), alike.sum(0).float()
    return (rows.log().mean() + columns.log().mean()) / 2


def siglip_floor(matches: Tensor, same: Tensor) -> Tensor:
    """The smallest possible `siglip` of a batch, in which equal texts may match an image or not.

    Args:
        matches, same: see `info_nce_floor`.
    """
    count = same.sum(1).float()
    share = 1 / count  # one of the equal texts matches an image, or all of them do
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
    """Negative log likelihood of a normal, in nats, summed over all dimensions and averaged over the batch.

    Args:
        mean: (B, ...). target: (B, ...). log_sigma: scalar, or a tensor that broadcasts.
        each: returns the value of every sample, (B,), instead of the mean.
    """
    scaled = (target - mean) * (-log_sigma).exp()
    nll = (scaled.pow(2) / 2 + log_sigma + math.log(2 * math.pi) / 2).flatten(1).sum(1)
    return nll if each else nll.mean()


def bernoulli_nll(logits: Tensor, target: Tensor) -> Tensor:
    """Negative log likelihood of independent Bernoulli variables, in nats, summed over all dimensions: (B,).

    Args:
        logits: (B, ...). target: (B, ...) in [0, 1]; between 0 and 1 it is a cross-entropy.
    """
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).sum(1)


def kl_normal(mean: Tensor, log_var: Tensor, prior_mean: Tensor | float = 0.0, prior_log_var: Tensor | float = 0.0):
    """KL divergence of N(mean, exp log_var) from a prior, N(0, 1) by default, in nats, element-wise: (B, D)."""
    log_ratio = log_var - prior_log_var
    distance = (mean - prior_mean).pow(2) * torch.exp(-torch.as_tensor(prior_log_var))
    return (distance + log_ratio.exp() - 1 - log_ratio) / 2


def adversarial(kind: str, real: Tensor, fake: Tensor, turn: str) -> Tensor:
    """The loss of one turn of adversarial training.

    Args:
        kind: `rp`, relativistic pairing of each real image with a generated one of the same condition; `ns`,
            non-saturating; `hinge`; `ls`, least squares to 1 for real and 0 for generated images.
        real, fake: (B,) logits; except for `rp` the generator's loss depends on `fake` alone.
        turn: `discriminator` or `generator`.

    References:
        The relativistic discriminator (Jolicoeur-Martineau, 2019); The GAN is dead; long live the GAN! (Huang et al.,
        2024), for `rp`
        Generative Adversarial Nets (Goodfellow et al., 2014), for `ns`
        Geometric GAN (Lim, Ye, 2017), for `hinge`
        Least Squares Generative Adversarial Networks (Mao et al., 2017), for `ls`

    Raises:
        ValueError: the kind is unknown.
    """
    critic = turn == "discriminator"
    if kind == "rp":
        return F.softplus(fake - real if critic else real - fake).mean()
    if kind == "ns":
        return F.softplus(-real).mean() + F.softplus(fake).mean() if critic else F.softplus(-fake).mean()
    if kind == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean() if critic else -fake.mean()
    if kind == "ls":
        return (real - 1).pow(2).mean() + fake.pow(2).mean() if critic else (fake - 1).pow(2).mean()
    raise ValueError(f"there is no adversarial loss {kind!r}; choose rp, ns, hinge or ls")


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared gradient norm of a discriminator's logits: R1 on real, R2 on generated images.

    Args:
        logits: (B,), computed from `images` with a graph.
        images: (B, C, H, W), with `requires_grad`.

    References:
        Which Training Methods for GANs do actually Converge? (Mescheder et al., 2018)
    """
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return slope.float().pow(2).flatten(1).sum(1).mean()


def nt_xent(z_1: Tensor, z_2: Tensor, temperature: float) -> Tensor:
    """Normalised temperature-scaled cross-entropy: the positive of a view is the other view of its image.

    Args:
        z_1, z_2: unit length, (B, D); row i of both is of image i.

    References:
        A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020)
    """
    z = torch.cat([z_1, z_2])
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z_1)))


def queue_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float, same: Tensor | None = None) -> Tensor:
    """Contrastive loss of queries and keys, with the keys of earlier images in a queue as negatives.

    Args:
        query, key: unit length, (B, D); row i of both is of image i.
        queue: unit length, (K, D).
        same: bool (B, K); [i, k] is true where key k of the queue belongs to image i, and so is not a negative.

    References:
        Momentum Contrast for Unsupervised Visual Representation Learning (He et al., 2020)
    """
    negative = query @ queue.T
    if same is not None:
        negative = negative.masked_fill(same, float("-inf"))
    logits = torch.cat([(query * key).sum(1, keepdim=True), negative], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def instance_softmax(features: Tensor, bank: Tensor, index: Tensor, temperature: float) -> Tensor:
    """Instance discrimination: every image is a class, with its row of the memory bank as the class weight.

    Args:
        features: unit length, (B, D).
        bank: unit length, (N, D).
        index: int64 (B,), the images' rows of the bank.

    References:
        Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al., 2018), Eq. 2
    """
    return F.cross_entropy(features @ bank.T / temperature, index)


def instance_nce(
    features: Tensor, bank: Tensor, index: Tensor, noise: Tensor, temperature: float, log_z: Tensor
) -> Tensor:
    """Noise-contrastive estimate of `instance_softmax`, from M rows of the bank drawn at random.

    P(i | v) = exp(v . bank_i / temperature) / Z, and h = P / (P + M / N) is the probability that row i is the image's
    own and not one of the M noise rows; the loss is -log h of its own row minus the sum of log (1 - h) over the noise.

    Args:
        features, bank, index: as for `instance_softmax`.
        noise: int64 (M,), rows of the bank drawn uniformly, the same for all images.
        log_z: scalar, the logarithm of Z; see `log_partition`.

    References:
        Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al., 2018), Eqs. 4 to 7
    """
    log_ratio = math.log(len(noise) / len(bank))
    positive = (features * bank[index]).sum(1) / temperature - log_z - log_ratio
    negative = features @ bank[noise].T / temperature - log_z - log_ratio
    return -(F.logsigmoid(positive) + F.logsigmoid(-negative).sum(1)).mean()


def log_partition(features: Tensor, rows: Tensor, temperature: float, num_images: int) -> Tensor:
    """Estimates log Z of `instance_nce` from rows of the bank drawn uniformly, (M, D), averaged over the features."""
    logits = features @ rows.T / temperature
    return torch.logsumexp(logits.flatten(), 0) - math.log(logits.numel()) + math.log(num_images)


def spread(z: Tensor) -> Tensor:
    """Spread of unit vectors (B, D): their standard deviation over sqrt(1 / D). 0 is a collapse, 1 is uniform.

    References:
        Exploring Simple Siamese Representation Learning (Chen, He, 2021), section 4.1
    """
    return z.std(0, correction=0).mean() * math.sqrt(z.shape[1])
