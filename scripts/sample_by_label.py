"""Paints labels and attributes with a trained model, and says what the model knows when nothing is asked.

    python scripts/sample_by_label.py runs/digits
    python scripts/sample_by_label.py runs/digits label=3 -n 4 -o out
    python scripts/sample_by_label.py runs/faces smiling=1 age=30 --option guidance=2

What `condgen sample` does, in as few lines as the library needs for it.
"""

from __future__ import annotations

import argparse

import condgen
from condgen.pipelines.class_to_image import values_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("wanted", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("-n", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-o", "--out", default="out")
    args = parser.parse_args()
    model = condgen.load(args.model)
    if not args.wanted:
        print("\n".join(f"{one.name}: {values_text(one)}" for one in model.attributes))
        print(
            "\n".join(f"--option {option.name}={option.default:g}: {option.help}" for option in model.sampling_options)
        )
        return
    wanted = dict(pair.split("=", 1) for pair in args.wanted)
    options = {name: float(value) for name, value in (pair.split("=", 1) for pair in args.option)}
    for generated in model.sample(wanted, n=args.n, seed=args.seed, **options):
        print(generated.save(args.out))


if __name__ == "__main__":
    main()
