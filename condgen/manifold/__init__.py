"""What a latent space is good for, one question a tool, each with numbers and a picture as its answer.

from condgen.manifold import interpolate

interpolate(model, a, b).save("out")

The tools work on anything that turns codes into pictures and, but for GANs, pictures into codes; see `spaces`.
"""

from condgen.manifold.attributes import Arithmetic, Edit, arithmetic, edit
from condgen.manifold.density import Holes, holes
from condgen.manifold.interpolation import Interpolation, interpolate
from condgen.manifold.likelihood import Likelihood, importance_weighted
from condgen.manifold.nearness import Neighbours, neighbours
from condgen.manifold.oddity import Novelty, novelty
from condgen.manifold.projection import Projection, find_codes, project, spoiled
from condgen.manifold.spaces import ToldSpace, as_space
from condgen.manifold.study import Study
from condgen.manifold.tangents import Jacobian, jacobian
from condgen.manifold.traversal import Traversal, traverse

__all__ = [
    "Arithmetic", "Edit", "Holes", "Interpolation", "Jacobian", "Likelihood", "Neighbours", "Novelty", "Projection",
    "Study", "ToldSpace", "Traversal", "arithmetic", "as_space", "edit", "find_codes", "holes", "importance_weighted",
    "interpolate", "jacobian", "neighbours", "novelty", "project", "spoiled", "traverse",
]  # fmt: skip
