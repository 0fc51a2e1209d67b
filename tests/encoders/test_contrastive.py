"""The losses of contrastive encoders: what they equal, what they cannot fall below, chunks, processes, bad input."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from condgen.contracts import CondgenError, Encoder
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.losses import info_nce, info_nce_floor, siglip, siglip_floor
from condgen.nn.specs import EncoderSpec
from tests.encoders.contrastive_processes import BATCH, OBJECTIVES, PIECES, TOWERS, joint, training
from tests.training.test_ranks import finished, launched


def gradients(model: ClipTraining) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    torch.manual_seed(5)
    model.loss(joint())["loss"].backward()
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


def furthest(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The largest deviation of any weight's gradient, as a share of its largest entry."""
    assert found.keys() == wanted.keys()
    return max(float((found[k] - g).abs().max() / (g.abs().max() + 1e-6)) for k, g in wanted.items())


def leaves(n=6, dim=16):
    torch.manual_seed(0)
    unit = F.normalize(torch.randn(2, n, dim), dim=-1)
    return [x.clone().requires_grad_() for x in (*unit, torch.tensor(2.3), torch.tensor(-1.7))]


def ours_and_theirs(kind: str):
    """Value and gradients of a loss with one positive a row, ours and open_clip's."""
    from open_clip import loss as theirs

    eye, out = torch.eye(6, dtype=torch.bool), []
    for own in (True, False):
        image, text, log_scale, bias = parts = leaves()
        if kind == "infonce":
            other = theirs.ClipLoss()
            value = info_nce(image, text, log_scale.exp(), eye) if own else other(image, text, log_scale.exp())
            parts = parts[:3]
        else:
            other = theirs.SigLipLoss()
            value = (
                siglip(image, text, log_scale.exp(), bias, eye) if own else other(image, text, log_scale.exp(), bias)
            )
        out.append([value.detach(), *torch.autograd.grad(value, parts)])
    return zip(*out)


@pytest.mark.parametrize("kind", ["infonce", "siglip"])
def test_values_and_gradients_are_open_clips_where_both_compute_the_same(kind):
    for ours, theirs in ours_and_theirs(kind):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_chunks_leave_every_gradient_as_it_is(name):
    whole = gradients(training(name, 1, BATCH))
    assert whole["clip.log_scale"] != 0 and (whole["clip.bias"] != 0) == name.startswith("siglip")
    for pieces in PIECES[1:]:
        assert furthest(gradients(training(name, pieces, BATCH)), whole) < 1e-4


def test_two_processes_have_the_gradients_of_the_joint_batch(tmp_path):
    finished(launched("tests.encoders.contrastive_processes", tmp_path))
    found = load_file(tmp_path / "gradients.safetensors")
    worst = 0.0
    for name in OBJECTIVES:
        whole = gradients(training(name, 1, BATCH))
        for pieces in PIECES:
            head = f"{name}/{pieces}/"
            own = {key.removeprefix(head): grad for key, grad in found.items() if key.startswith(head)}
            worst = max(worst, furthest(own, whole))
    print(f"largest deviation {worst:.1e} of a weight's largest gradient")
    assert worst < 1e-4


def test_patches_left_out_are_the_same_when_a_chunk_is_embedded_again():
    """A gradient of two passes is that of one only where both leave out the same patches."""
    objective = ClipObjective(negatives=0, caption=0.0, patch_dropout=0.5, chunk=4)
    torch.manual_seed(0)
    model = ClipTraining(CLIP(TOWERS, EncoderSpec(16)), objective).train()
    first = gradients(model)
    assert furthest(gradients(model), first) == 0.0
    images = joint()["image"]
    assert not torch.equal(model.clip.embed_image(images), model.clip.embed_image(images))
    model.eval()
    assert torch.equal(model.clip.embed_image(images), model.clip.embed_image(images))


# floors ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.integers(0, 1000), st.sampled_from(["pair", "text"]))
def test_no_embedding_gets_below_the_floor_and_a_perfect_one_reaches_it(texts, seed, positives):
    text = torch.tensor(texts)
    same = text[:, None] == text
    matches = torch.eye(len(text), dtype=torch.bool) if positives == "pair" else same
    rng = torch.Generator().manual_seed(seed)
    image = F.normalize(torch.randn(len(text), 8, generator=rng), dim=1)
    said = F.normalize(torch.randn(5, 8, generator=rng), dim=1)[text]  # equal texts have one embedding
    perfect = torch.eye(5)[text]
    floor, scale = info_nce_floor(matches, same), torch.tensor(100.0)
    assert info_nce(image, said, scale, matches) > floor - 1e-5
    assert info_nce(perfect, perfect, scale, matches) == pytest.approx(floor.item(), abs=1e-4)
    low = siglip_floor(matches, same)
    assert siglip(image, said, scale, torch.tensor(-5.0), matches) > low - 1e-4
    share = (matches.float() @ same.float()) / same.sum(0)
    best = torch.logit(share.clamp(1e-6, 1 - 1e-6))  # the logits that say how likely a pair of such texts matches
    reached = F.binary_cross_entropy_with_logits(best, matches.float(), reduction="sum") / len(text)
    assert reached == pytest.approx(low.item(), abs=1e-3)


def test_ten_classes_have_the_floor_that_people_take_for_a_fault():
    """1.86 nats at 64 images of ten classes, measured of a perfect model with plain CLIP loss."""
    text = torch.arange(64) % 10
    floor = info_nce_floor(torch.eye(64, dtype=torch.bool), text[:, None] == text)
    assert floor.item() == pytest.approx(1.86, abs=0.01)


# what belongs together ------------------------------------------------------------------------------------------------


def test_positives_are_pairs_texts_or_labels():
    given = joint()
    ids = given["true_ids"], given["text_id"]
    made = {p: training(f"infonce-{p}", 1, BATCH)._matches(given, *ids) for p in ("pair", "text", "label")}
    assert torch.equal(made["pair"], torch.eye(8, dtype=torch.bool))
    assert made["text"][0].tolist() == [True, True, True, False, False, False, False, False]  # texts 0 and 1 are its
    assert made["text"][3].tolist() == [False] * 3 + [True] + [False] * 4
    assert torch.equal(made["label"], given["label"][:, None] == given["label"])
    assert not (made["pair"] & ~made["text"]).any()


@pytest.mark.parametrize("objective, message", [
    (ClipObjective(loss="siglip", caption=0.0), "needs an encoder whose logits have a bias"),
    (ClipObjective(patch_dropout=1.5, caption=0.0), "patch_dropout is a share below 1"),
])  # fmt: skip
def test_an_objective_that_does_not_fit_is_refused(objective, message):
    with pytest.raises(CondgenError, match=message):
        ClipTraining(
            CLIP(CLIPConfig(image_width=16, image="patch", patch=4, vocab=64, context=12), EncoderSpec(16)), objective
        )


def test_patch_dropout_needs_patches():
    with pytest.raises(CondgenError, match="patch transformer"):
        ClipTraining(
            CLIP(CLIPConfig(image="resnet", vocab=64, context=12), EncoderSpec(16)),
            ClipObjective(patch_dropout=0.5, caption=0.0),
        )


def test_labels_that_are_not_there_are_refused():
    given = {key: value for key, value in joint().items() if key != "label"}
    with pytest.raises(CondgenError, match="have no labels"):
        training("infonce-label", 1, BATCH).loss(given)


# towers ---------------------------------------------------------------------------------------------------------------

IMAGE_TOWERS = {"grid": 32, "patch": 28, "resnet": 28}


@pytest.mark.parametrize("text", ["words", "clip"])
@pytest.mark.parametrize("image", IMAGE_TOWERS)
def test_towers_keep_the_contract(image, text):
    config = CLIPConfig(
        vocab=12, context=6, embed_dim=8, image_width=16, text_width=16, depth=1, heads=2,
        image=image, text=text, patch=4,
    )  # fmt: skip
    clip = CLIP(config, EncoderSpec(IMAGE_TOWERS[image])).eval()
    assert isinstance(clip, Encoder)
    images, tokens = torch.rand(3, 3, clip.size, clip.size) * 2 - 1, joint()["tokens"][:3]
    for embeds in (clip.embed_image(images), clip.embed_text(tokens)):
        assert embeds.shape == (3, 8)
        torch.testing.assert_close(embeds.norm(dim=1), torch.ones(3))
    assert clip.features(images).ndim == 2 and len(clip.features(images)) == 3


def test_what_follows_the_end_mark_is_seen_by_nobody():
    clip, tokens = CLIP(TOWERS, EncoderSpec(16)).eval(), joint()["tokens"]
    other = tokens.clone()
    other[:, 5] = 7
    torch.testing.assert_close(clip.embed_text(tokens), clip.embed_text(other))


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("patch, stages", [(1, 4), (2, 3), (4, 2)])
def test_a_residual_network_reads_any_size_that_can_be_halved(norm, patch, stages):
    net = Backbone(BackboneConfig("resnet", 8, 1, patch=patch, stages=stages, norm=norm), EncoderSpec(28)).eval()
    images = torch.rand(2, 3, 28, 28)
    assert net(images).shape == (2, net.width) and net.width == 8 * 2 ** (stages - 1)
    torch.testing.assert_close(net(images)[1:], net(images[1:]))  # an image's features are its own


@pytest.mark.parametrize("config, message", [
    (BackboneConfig("patch", patch=5), "cannot be cut into squares of 5"),
    (BackboneConfig("resnet", patch=4, stages=5), "cannot be halved 4 times"),
])  # fmt: skip
def test_a_backbone_that_cannot_be_is_refused(config, message):
    with pytest.raises(CondgenError, match=message):
        Backbone(config, EncoderSpec(28))


def test_a_sigmoid_loss_starts_at_what_most_pairs_are():
    """-ln(B - 1) as the bias: at first every pair is told to match once in B."""
    n = 16
    far = torch.zeros(n, 4)
    eye = torch.eye(n, dtype=torch.bool)
    started = siglip(far, far, torch.tensor(10.0), torch.tensor(-math.log(n - 1)), eye)
    for bias in (-10.0, 0.0):
        assert started < siglip(far, far, torch.tensor(10.0), torch.tensor(bias), eye)
