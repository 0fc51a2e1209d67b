"""What a latent space is good for, one question a tool, each with numbers and an image as its answer.

from condgen.latent_space import interpolate

interpolate(model, a, b).save("out")

The tools work on anything that turns codes into images and, but for GANs, images into codes; see `spaces`.
"""

from condgen.latent_space.adapters import ConditionalLatentSpace, as_space
from condgen.latent_space.anomaly import Novelty, novelty
from condgen.latent_space.attributes import Arithmetic, Edit, arithmetic, edit
from condgen.latent_space.density import Holes, holes
from condgen.latent_space.interpolation import Interpolation, interpolate
from condgen.latent_space.jacobian import Jacobian, jacobian
from condgen.latent_space.likelihood import Likelihood, importance_weighted
from condgen.latent_space.neighbours import Neighbours, neighbours
from condgen.latent_space.projection import Projection, find_codes, project, spoiled
from condgen.latent_space.result import Analysis
from condgen.latent_space.traversal import Traversal, traverse

__all__ = [
    "Analysis",
    "Arithmetic",
    "ConditionalLatentSpace",
    "Edit",
    "Holes",
    "Interpolation",
    "Jacobian",
    "Likelihood",
    "Neighbours",
    "Novelty",
    "Projection",
    "Traversal",
    "arithmetic",
    "as_space",
    "edit",
    "find_codes",
    "holes",
    "importance_weighted",
    "interpolate",
    "jacobian",
    "neighbours",
    "novelty",
    "project",
    "spoiled",
    "traverse",
]  # fmt: skip
