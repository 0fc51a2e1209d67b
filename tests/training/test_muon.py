import pytest
import torch
from torch import nn

from condgen.training.muon import Muon, cost, matrices_of, orthogonal, orthogonal_all, shares


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_orthogonal_keeps_the_singular_vectors_and_evens_the_values(shape):
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    out = orthogonal(g)
    assert out.shape == g.shape
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    values = u.mT @ out @ v.mT
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    assert (diagonal > 0.5).all() and (diagonal < 1.3).all()
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-3


def test_agrees_with_torch_on_matrices():
    """torch.optim.Muon iterates in bfloat16, hence the tolerance."""
    torch.manual_seed(0)
    start, gradients = torch.randn(12, 30), torch.randn(6, 12, 30)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    own = Muon([ours], lr=0.02, weight_decay=0.1)
    oracle = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        own.step()
        oracle.step()
    moved = (theirs - start).norm()
    assert moved > 0.3 and (ours - theirs).norm() < 0.03 * moved


def test_a_kernel_is_a_matrix_and_shapes_do_not_mix():
    """Stepping parameters of one shape together is stepping each alone; a kernel moves as its flattened matrix."""
    torch.manual_seed(1)
    start, gradients = torch.randn(3, 8, 4, 3, 3), torch.randn(3, 8, 4, 3, 3)

    def stepped(some: list[torch.Tensor], pushes: list[torch.Tensor]) -> list[torch.Tensor]:
        parameters = [nn.Parameter(t.clone()) for t in some]
        for p, push in zip(parameters, pushes):
            p.grad = push.clone()
        Muon(parameters, lr=0.1).step()
        return [p.detach() for p in parameters]

    together = stepped(list(start), list(gradients))
    for k in range(3):
        alone = stepped([start[k].flatten(1)], [gradients[k].flatten(1)])[0]
        torch.testing.assert_close(together[k].flatten(1), alone, rtol=1e-4, atol=1e-5)


def test_only_weights_of_linear_and_convolution_are_matrices():
    model = nn.ModuleDict({"token": nn.Embedding(5, 4), "map": nn.Linear(4, 4), "see": nn.Conv2d(3, 4, 3)})
    model["norm"] = nn.LayerNorm(4)
    assert matrices_of(model) == {model["map"].weight, model["see"].weight}
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.zeros(4))])


def test_matrices_of_any_shapes_come_back_in_their_order():
    torch.manual_seed(2)
    some = [torch.randn(shape) for shape in ((4, 9), (7, 3), (4, 9), (5, 5), (7, 3))]
    for one, out in zip(some, orthogonal_all(some), strict=True):
        torch.testing.assert_close(out, orthogonal(one[None])[0])


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_every_matrix_once_and_cost_about_the_same(count):
    costs = [
        cost(torch.Size(shape)) for shape in [(64, 576)] * 9 + [(128, 512)] * 4 + [(12, 288)] * 5 + [(32, 32)] * 12
    ]
    parts = shares(costs, count)
    assert sorted(i for part in parts for i in part) == list(range(len(costs)))
    sums = [sum(costs[i] for i in part) for part in parts]
    assert max(sums) - min(sums) <= max(costs)
