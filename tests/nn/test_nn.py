import pytest
import torch

from condgen.decoders.diffusion import UNet, UNetConfig
from condgen.nn.conditioning import DecoderObjective, ImageTextEncoder, condition, null_cond
from condgen.nn.layers import Attention, Block, timestep_embedding
from condgen.priors.transformer import EmbeddingNormalizer

torch.manual_seed(0)
D, VOCAB, L = 16, 30, 6


def some(n=4):
    tokens = torch.randint(3, VOCAB, (n, L))
    tokens[:, 4:] = 0
    return condition(torch.randn(n, D), tokens)


@pytest.fixture
def cond_encoder():
    return ImageTextEncoder(D, VOCAB, L, width=32, heads=2, depth=1).eval()


def test_masked_tokens_do_not_matter():
    attention = Attention(16, 2, context_width=8).eval()
    x, context = torch.randn(2, 5, 16), torch.randn(2, 3, 8)
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[:, 6:] = False
    other = context.clone()
    other[:, 1:] = 99
    torch.testing.assert_close(attention(x, mask, context), attention(x, mask, other))


def test_attention_without_mask_equals_a_full_mask():
    block, x = Block(16, 2), torch.randn(2, 5, 16)
    torch.testing.assert_close(block(x), block(x, torch.ones(2, 5, dtype=torch.bool)))


def test_dropped_halves_leave_no_trace(cond_encoder):
    """Without words the tokens do not matter, without z the embedding does not, with nothing neither does."""
    a, b = some(), some()
    for flags, same in (({"has_text": False}, "z"), ({"has_z": False}, "tokens")):
        off = {name: torch.full((4,), value) for name, value in flags.items()}
        x, y = cond_encoder(a | off), cond_encoder(b | {same: a[same]} | off)
        torch.testing.assert_close(x["tokens"], y["tokens"])
        torch.testing.assert_close(x["vector"], y["vector"])
    x, y = cond_encoder(null_cond(a)), cond_encoder(null_cond(b))
    torch.testing.assert_close(x["tokens"], y["tokens"])
    assert x["seen"][:, 4:].sum() == 0


def test_drop_rates_are_per_sample_and_as_asked():
    torch.manual_seed(1)
    cond = condition(torch.zeros(40_000, D), torch.ones(40_000, L, dtype=torch.long))
    out = DecoderObjective(drop_all=0.1, drop_embed=0.2, drop_text=0.3, noise=0.15).drop(cond)
    z, words = out["has_z"], out["has_text"]
    assert (~z & ~words).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (~z & words).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert (z & ~words).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert out["z"].std().item() == pytest.approx(0.15, abs=0.01)
    assert cond["z"].abs().max() == 0, "the batch that was given is not changed"


@pytest.mark.parametrize("size, channels", [(16, (8, 16)), (32, (8, 16)), (64, (8, 16, 24))])
def test_unet_keeps_the_shape_and_every_weight_learns(size, channels, cond_encoder):
    unet = UNet(UNetConfig(size, channels, heads=2), 32)
    told = cond_encoder(some(2))
    told["layout"] = unet.layout(told)
    torch.nn.init.normal_(unet.out.weight, std=0.1)
    out = unet(torch.randn(2, 3, size, size), torch.rand(2), told)
    assert out.shape == (2, 3, size, size)
    for block in unet.modules():
        if hasattr(block, "conv_2"):
            torch.nn.init.normal_(block.conv_2.weight, std=0.1)
    unet(torch.randn(2, 3, size, size), torch.rand(2), told | {"layout": unet.layout(told)}).square().sum().backward()
    assert not [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.isfinite().all()]


def test_evaluation_is_repeatable(cond_encoder):
    unet = UNet(UNetConfig(16, (8, 16), heads=2), 32).eval()
    x, t, cond = torch.randn(2, 3, 16, 16), torch.rand(2), cond_encoder(some(2))
    cond["layout"] = unet.layout(cond)
    torch.testing.assert_close(unet(x, t, cond), unet(x, t, cond), rtol=0, atol=0)


def test_normaliser_round_trip_and_statistics():
    embed = torch.nn.functional.normalize(torch.randn(500, D) + 0.5, dim=1)
    kept = embed.clone()
    normalizer = EmbeddingNormalizer.fit(embed, "space")
    z = normalizer(embed)
    torch.testing.assert_close(z.mean(0), torch.zeros(D), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(D), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalizer.back(z), embed, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embed, kept, rtol=0, atol=0)


def test_waves_tell_noise_levels_apart():
    features = timestep_embedding(torch.linspace(0, 1, 50), 64)
    distance = torch.cdist(features, features) + 10 * torch.eye(50)
    assert features.shape == (50, 64) and distance.min() > 0.1


@pytest.mark.parametrize("layers", [0, 3])
def test_a_flow_is_undone_exactly_and_its_density_is_the_change_of_variables(layers):
    from condgen.nn.flow import Flow

    torch.manual_seed(0)
    flow = Flow(6, 5, layers, hidden=8).double()
    code, vector = torch.randn(4, 6).double(), torch.randn(4, 5).double()
    normal = torch.distributions.MultivariateNormal(torch.zeros(6).double(), torch.eye(6).double())
    torch.testing.assert_close(flow.log_prob(code, vector), normal.log_prob(code))  # untrained it changes nothing
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, log_det = flow.to_normal(code, vector)
    torch.testing.assert_close(flow.from_normal(x, vector), code)
    for i in range(4):
        slope = torch.autograd.functional.jacobian(
            lambda c, i=i: flow.to_normal(c[None], vector[i : i + 1])[0][0], code[i]
        )
        torch.testing.assert_close(torch.linalg.slogdet(slope)[1], log_det[i])
