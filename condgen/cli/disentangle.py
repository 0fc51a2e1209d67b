"""`condgen manifold disentangle MODEL`: scores of disentanglement, see `condgen.evaluation.disentanglement`."""

from __future__ import annotations

import argparse

HELP = "score whether each number of the code stands for one factor, on data whose factors are known"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The factors are columns of the data, --attribute-columns."""
    text = "images to judge on, at most (default 10000)"
    parser.add_argument("-n", type=int, default=10_000, metavar="N", help=text)
    text = "of the choice of images, of the forests, of the votes (default 0)"
    parser.add_argument("--seed", type=int, default=0, help=text)


def use(args: argparse.Namespace, space, pictures, progress):
    """What `manifold` calls."""
    from condgen.evaluation.disentanglement import evaluate_disentanglement, read_factors

    data = read_factors(space, args.data, args.split, args.attribute_columns, args.filter or "")
    return evaluate_disentanglement(space, data, args.n, args.seed, progress)
