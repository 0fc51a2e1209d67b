"""Generates images from labels and attributes; without any, lists those of the model and its options.

    python scripts/sample_by_label.py runs/digits
    python scripts/sample_by_label.py runs/digits label=3 -n 4 -o out
    python scripts/sample_by_label.py runs/faces smiling=1 age=30 --option guidance=2

A minimal version of `condgen sample`, as an example of the Python API.
"""

from __future__ import annotations

import argparse

import condgen
from condgen.pipelines.class_to_image import values_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("condition", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("-n", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-o", "--out", default="out")
    args = parser.parse_args()
    model = condgen.load(args.model)
    if not args.condition:
        print("\n".join(f"{one.name}: {values_text(one)}" for one in model.attributes))
        print("\n".join(f"--option {one.name}={one.default:g}: {one.help}" for one in model.sampling_options))
        return
    condition = dict(pair.split("=", 1) for pair in args.condition)
    options = {name: float(value) for name, value in (pair.split("=", 1) for pair in args.option)}
    for generated in model.sample(condition, n=args.n, seed=args.seed, **options):
        print(generated.save(args.out))


if __name__ == "__main__":
    main()
