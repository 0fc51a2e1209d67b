"""A model of labels that paints in no time; its decoder is a stand-in, and must be registered to be saved or loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, Knob, check_knobs
from condgen.factors import Factor
from condgen.labelling import LabelToImage

CLOTHES = Factor("label", ("T-shirt/top", "Trouser", "Sneaker", "Ankle boot"))
LACES = Factor("laces", ("no", "yes"))
AGE = Factor("age", mean=40.0, sd=10.0, low=18.0, high=90.0)


@dataclass(frozen=True)
class StandInConfig:
    size: int = 8
    colours: int = 1
    levels: tuple[int, ...] = (4, 2, 0)


class StandIn(nn.Module):
    """What is said sets the mean of a picture, and noise is added, in steps."""

    def __init__(self, config: StandInConfig):
        super().__init__()
        self.config = config
        self.mean = nn.Linear(2 * sum(max(n, 1) for n in config.levels), config.colours * config.size**2)
        nn.init.normal_(self.mean.weight)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return (
            Knob("temperature", 0.5, 0, 2, "float", "how far pictures differ"),
            Knob("slow_steps", 3, 1, 9, "int", "steps"),
        )

    def sample(self, cond: Batch, rng: list[torch.Generator], **knobs: float) -> Iterator[Tensor]:
        dials = check_knobs(self.knobs, knobs)
        shape = (self.config.colours, self.config.size, self.config.size)
        noise = torch.stack([torch.randn(shape, generator=one) for one in rng])
        with torch.inference_mode():
            said = []
            for i, n in enumerate(self.config.levels):
                code, known = cond["codes"][:, i], cond["has_codes"][:, i, None].float()
                own = nn.functional.one_hot(code.long(), n).float() if n else code[:, None]
                said += [own * known, known.expand_as(own)]
            mean = self.mean(torch.cat(said, 1)).view(-1, *shape)
            for step in range(dials["slow_steps"]):
                yield torch.tanh(mean * (step + 1) / dials["slow_steps"] + dials["temperature"] * noise)


def label_model(
    colours: int = 1, factors: tuple[Factor, ...] = (CLOTHES, LACES, AGE), name: str = "shoes"
) -> LabelToImage:
    """An untrained model, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = StandIn(StandInConfig(colours=colours, levels=tuple(factor.levels for factor in factors)))
    return LabelToImage(decoder, factors, about={"name": name, "recipe": "none", "data": "drawn"})
