"""`condgen generate PROMPT...`: images with their recipe inside, and a labelled sheet of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from condgen.cli.terminal import (
    MAX_ON_SHEET,
    Parser,
    add_model_arguments,
    add_output_arguments,
    add_seed_argument,
    add_size_argument,
    check_device,
    check_folder,
    counted,
    save_sheet,
    say,
)
from condgen.contracts import CondgenError, SamplingOption, to_json
from condgen.text import check_prompt

HELP = "generate images from prompts"
OPTIONS = (
    ("--guidance", "W", float, "how closely to follow the prompt; 1 is off"),
    ("--guidance-low", "T", float, "lower bound of the noise levels with guidance, from 0 to 1"),
    ("--guidance-high", "T", float, "upper bound of the noise levels with guidance, from 0 to 1"),
    ("--steps", "K", int, "denoising steps"),
    (
        "--temperature",
        "T",
        float,
        "standard deviation of a CVAE's latent; smaller gives more typical, less varied images",
    ),
    ("--truncation", "T", float, "bound of a GAN's noise; smaller gives more typical, less varied images"),
    ("--best-of", "N", int, "number of embeddings that the prior samples; the one most similar to the text is used"),
    ("--prior-steps", "K", int, "denoising steps of the prior"),
    ("--prior-guidance", "W", float, "guidance of the prior; 1 is off"),
    ("--upsample-steps", "K", int, "denoising steps of every upsampler, for --size"),
    ("--upsample-augmentation", "A", float, "noise added to an image before it is enlarged, for --size"),
)
GUIDES = {
    "image": ("IMAGE", Path, "an image whose embedding is mixed with that of the prompt"),
    "image_weight": ("W", float, "weight of --image, from 0 to 1 (default 0.5)"),
    "init": ("IMAGE", Path, "an image to begin from (diffusion decoders)"),
    "noise": ("T", float, "noise level at which generation from --init begins; 1 is noise (default 0.85, or 1 with "
              "--mask)"),
    "mask": ("IMAGE", Path, "white is generated, black keeps the pixels of --init"),
    "negative": ("WORDS", str, "words to steer away from (diffusion decoders); they act through --guidance, which at 1 "
                 "is off"),
}  # fmt: skip
"""Arguments of `EmbeddingPipeline.guide`: name -> metavar, type and help."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Omitted options keep the model's defaults; `condgen info MODEL` lists ranges and defaults."""
    parser.set_defaults(more=[])
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to generate")
    parser.add_argument("--prompts-file", type=Path, metavar="FILE", help="file of prompts, one per line")
    add_model_arguments(parser)
    parser.add_argument("-n", type=int, default=1, metavar="N", help="images per prompt (default 1)")
    add_seed_argument(parser, "prompt")
    parser.add_argument("--prior", metavar="P", help="a prior of the model, or `none`: the text embedding itself")
    text = "fast: fewer steps; quality: the better of 2 candidates; other options given take precedence"
    parser.add_argument("--preset", metavar="NAME", help=text)
    text = "images of every seed, of which the one is kept that the model's encoder finds nearest to the prompt"
    parser.add_argument("--candidates", type=int, metavar="N", help=f"{text} (default 1)")
    for name, (metavar, kind, text) in GUIDES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)
    add_size_argument(parser)
    for flag, metavar, kind, text in OPTIONS:
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    add_output_arguments(parser, "print one JSON object per image on stdout")


def run(args: argparse.Namespace) -> int:
    """Checks the arguments before torch is imported, then generates."""
    from condgen.files.registry import find

    if any(getattr(args, name) is not None for name in GUIDES):
        return _guided(args)
    prompts = read_prompts(args.prompts, args.prompts_file)
    check_folder(args.out)
    folder = find(args.model)
    from condgen.nn.devices import adapt
    from condgen.pipelines.generation import SMALL
    from condgen.pipelines.text_to_image import TextToImage

    check_device(args.device)
    model = TextToImage.load(folder).to(args.device)
    if model.size <= SMALL:  # images that do not depend on the number of threads
        adapt()
    options = options_of(args, model.sampling_options(args.prior))
    images = model.generate(prompts, n=args.n, seed=args.seed, prior=args.prior, **options)
    save_images(images, len(prompts) * args.n, args.out, args.json)
    return 0


def _guided(args: argparse.Namespace) -> int:
    """Generates from words, negative words and images together; a prompt may be missing where an image begins."""
    from condgen.cli.editing import open_model

    missing = not args.prompts and args.prompts_file is None
    prompts = [] if missing else read_prompts(args.prompts, args.prompts_file)
    model = open_model(args)
    guides = {name: getattr(args, name) for name in GUIDES if getattr(args, name) is not None}
    options = options_of(args, model.sampling_options(args.prior))
    generated = model.guide(prompts, args.n, args.seed, args.prior, **guides, **options)
    save_images(generated, max(1, len(prompts)) * args.n, args.out, args.json)
    return 0


def options_of(args: argparse.Namespace, available: Iterable[SamplingOption]) -> dict[str, float]:
    """The options of the command line by name: those of the preset, replaced by those given.

    Args:
        available: the sampling options of the model.

    Raises:
        CondgenError: the model has no such option, or the value is not a number.
    """
    options: dict[str, float] = {}
    if getattr(args, "preset", None) is not None:
        from condgen.pipelines.presets import preset_of

        options |= preset_of(args.preset, available)
    names = ["size", "candidates", *(flag.strip("-").replace("-", "_") for flag, *_ in OPTIONS)]
    options |= {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    if args.more:  # options of other kinds of decoders and priors
        options |= sampling_options_of(available, args.more, args.parser)
    return options


def sampling_options_of(options: Iterable[SamplingOption], more: list[str], parser: Parser) -> dict[str, float]:
    """Parses the model's sampling options from the arguments that the parser did not know.

    Raises:
        CondgenError: the model has no such option, or the value is not a number.
    """
    flags = {option.name: f"--{option.name.replace('_', '-')}" for option in options}
    of_model = Parser(prog=parser.prog, add_help=False)
    for option in options:
        kind = int if option.kind == "int" else float
        of_model.add_argument(flags[option.name], dest=option.name, type=kind, default=argparse.SUPPRESS)
        if flags[option.name] not in parser._option_string_actions:  # for `refuse` to suggest
            parser.add_argument(flags[option.name], help=option.help)
    values, unknown = of_model.parse_known_args(more)
    if unknown:
        try:
            parser.refuse(unknown)
        except CondgenError as error:
            raise CondgenError(f"{error} This model's options: {', '.join(flags.values())}.") from None
    return vars(values)


def save_images(images, total: int, folder: Path, as_json: bool, columns: int = 0) -> None:
    """Writes each image when it is generated and prints a line about it; writes a sheet of several."""
    shown = []
    with counted(images, total) as (images, show):
        for generated in images:
            show(line_of(generated, generated.save(folder), as_json))
            if len(shown) < MAX_ON_SHEET:
                shown.append((generated.image, caption(generated.prompt, generated.seed)))
    if total > 1:
        say(f"sheet: {save_sheet(shown, total, folder, columns)}")


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """The prompts of the command line, then those of the file, whose empty lines are skipped.

    Raises:
        CondgenError: there is no prompt, one is empty or not valid text, or the file cannot be read.
    """
    prompts = list(prompts)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise CondgenError(f"{file} cannot be read ({error.strerror}).") from None
        except ValueError:
            raise CondgenError(f"{file} is not UTF-8 text. Expected prompts, one per line.") from None
        prompts += [line for line in lines if line.strip()]
    if not prompts:
        problem = f"{file} holds no prompt" if file else "There is no prompt"
        raise CondgenError(f"{problem}. Give one, for example: condgen generate 'a red circle'.")
    for prompt in prompts:
        check_prompt(prompt)
        if any("\ud800" <= c <= "\udfff" for c in prompt):
            raise CondgenError(f"The prompt {prompt!r} is not UTF-8 text.")
    return prompts


def line_of(generated, path: Path, as_json: bool) -> str:
    """Formats a line for stdout about one image; images without a prompt have no CLIP score."""
    ms, score = round(generated.ms, 1), generated.clip_score
    if as_json:
        condition = next(name for name in ("labels", "title", "prompt") if name in generated.recipe)
        facts = {condition: generated.recipe[condition], "seed": generated.seed, "path": str(path)}
        facts |= {} if score is None else {"clip_score": round(score, 4)}
        return to_json(facts | {"ms": ms})
    about = f"{generated.prompt}  seed {generated.seed}" if score is None else f"seed {generated.seed}"
    return f"{path}  {about}" + ("" if score is None else f"  clip score {score:.3f}") + f"  {ms:.0f} ms"


def caption(prompt: str, seed: int) -> str:
    """The text under an image of the sheet."""
    short = prompt if len(prompt) <= 60 else f"{prompt[:57]}..."
    return f"{short}, seed {seed}"
