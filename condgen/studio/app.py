"""The studio: a web page for a model, and its API.

    launch(build("scenes32"))

    from gradio_client import Client
    images, seed, archive, _ = Client("http://127.0.0.1:7860").predict(prompt="a red circle", api_name="/generate")

Gradio is imported by the modules of this package alone.
"""

from __future__ import annotations

import html
import inspect
import json
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError, ProgressCallback, SamplingOption, is_out_of_memory, out_of_memory
from condgen.files.registry import find
from condgen.pipelines.auto import kind_of
from condgen.pipelines.base import Pipeline
from condgen.pipelines.encoder import ImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.text_to_image import TextToImage
from condgen.retrieval.search import Finder, encoder_of, gallery_of
from condgen.studio.loopback import direct

with direct():
    import gradio as gr

    from condgen.studio import latent, search, session, theme

log = logging.getLogger("condgen.studio")
RANDOM = -1
"""The seed that stands for a random one."""
STOPPED = "Stopped. Images that were finished are kept."
FAILED = "The last request was not finished."


def build(
    model: TextToImage | ImageEncoder | LatentModel | str | None = None,
    data: str = "",
    progress: ProgressCallback = lambda share, message: None,
    device: str = "cpu",
) -> gr.Blocks:
    """Builds the page of a model: a loaded one, a path or name (see `condgen list`), or None for the bundled one.

    A text-to-image model gets a tab for generation, and one for the latent spaces of the unconditional models in
    `condgen list`; an unconditional model gets only the latter.

    Args:
        data: images; if given, the page searches them by text or image.
        progress: called while the images are embedded.
        device: where the models compute.

    Raises:
        CondgenError: an encoder without data; else as in `TextToImage.load`, `retrieval.search.encoder_of`, `Gallery`.
    """
    if data:
        encoder = encoder_of(model).to(device)
        finder = Finder(encoder, gallery_of(encoder, data))
        finder.embed(None, progress)
        return search.SearchPage(finder, user_errors).page
    if not isinstance(model, Pipeline):
        model = find(model)
    kind = kind_of(model) if isinstance(model, Path) else model.kind()
    if kind.task.endswith("encoding"):
        raise CondgenError("An encoder generates nothing. Give it images to search, with --data PATH.")
    if kind.name in ("EmbeddingToImage", "UnconditionalDecoder"):
        command = kind.command.format(model if isinstance(model, Path) else model.name)
        raise CondgenError(f"The studio has no page for a model that {kind.summary}: condgen {command}.")
    if kind.task == "unconditional":
        return latent.page_of(latent.latent_models(model), user_errors, device)
    model = model if isinstance(model, TextToImage) else TextToImage.load(model)
    return Studio(model.to(device), latent.latent_models(), device).page


def launch(page: gr.Blocks, **options: Any) -> None:
    """Starts the server with the settings of every studio: theme, small uploads, no tracebacks for visitors.

    Args:
        options: of Gradio's `launch`.
    """
    with direct(bool(options.get("share")), options.get("server_name") or ""):
        page.launch(
            theme=theme.theme(),
            css=theme.CSS,
            max_file_size="5mb",
            show_error=False,
            enable_monitoring=False,
            ssr_mode=False,
            footer_links=["api", "settings", "runs"],
            **options,
        )


class Studio:
    """The page of a text-to-image model: components and their callbacks; `page` is the Gradio page.

    Args:
        model: the model, which serves one request at a time.
        latent_models: unconditional models for the second tab.
        device: where the unconditional models compute.
    """

    def __init__(self, model: TextToImage, latent_models: latent.LatentModels, device: str = "cpu"):
        self.model, self.session = model, session.GenerationSession(model)
        with gr.Blocks(title="condgen studio", analytics_enabled=False, delete_cache=(3600, 86400)) as self.page:
            about = f"{html.escape(model.name)} · {model.size} × {model.size} pixels"
            gr.HTML(f"<h1>condgen studio</h1><p>{about}</p>", elem_id="title")
            with gr.Tab("Generate") if latent_models else nullcontext():
                self._header()
                with gr.Row():
                    with gr.Column(scale=3, min_width=320, elem_classes=["pixels"] if model.size < 128 else []):
                        self._stage()
                    with gr.Column(scale=2, min_width=280):
                        self._settings()
                        self._recipe()
            if latent_models:
                with gr.Tab("Latent space") as tab:
                    latent.LatentTab(latent_models, user_errors, tab.select, device)
            self._connect()
        self.page.queue(max_size=32, api_open=False)

    def _header(self) -> None:
        examples = session.examples_of(self.model)
        with gr.Row(elem_id="prompt-row"):
            hint = examples[0] if examples else "Describe an image"
            self.prompt = gr.Textbox(
                label="Prompt", placeholder=hint, show_label=False, container=False, scale=5, elem_id="prompt"
            )
            self.go = gr.Button("Generate", variant="primary", scale=1, elem_id="generate")
            self.stop = gr.Button("Stop", variant="stop", scale=1, elem_id="stop", visible=False)
        if examples:
            gr.Examples(
                [[text] for text in examples], self.prompt, label="Try", elem_id="examples", api_visibility="private"
            )

    def _stage(self) -> None:
        self.canvas = gr.HTML(theme.empty_canvas(), label="Progress", elem_id="canvas")
        self.images = gr.Gallery(
            label="Images", show_label=False, columns=2, object_fit="contain", height="auto", interactive=False,
            buttons=["download", "fullscreen"], elem_id="images",
        )  # fmt: skip
        self.archive = gr.DownloadButton("Download all (zip)", size="sm", elem_id="archive")

    def _settings(self) -> None:
        model = self.model
        self.count = gr.Slider(1, session.MAX_IMAGES, value=4, step=1, label="Images")
        with gr.Group():
            with gr.Row():
                self.seed = gr.Number(RANDOM, label="Seed", info="-1 for random", min_width=120)
                self.last_seed = gr.Textbox(  # text: numbers on a page are not exact above 2**53
                    label="Last seed", info="of the first image", placeholder="none yet", interactive=False,
                    min_width=120, elem_id="last-seed",
                )  # fmt: skip
            with gr.Row():
                self.reuse = gr.Button("Reuse last seed", size="sm", min_width=120)
                self.random = gr.Button("Random seed", size="sm", min_width=120)
        shown = {option.name for option in model.sampling_options()}
        offered = session.options_of(model).items()
        self.sliders = {name: self._slider(option, name in shown) for name, option in offered}
        self.prior = gr.Dropdown(
            session.priors_of(model),
            value=model.default_prior,
            label="Prior",
            info="from text to image embedding; none: the text embedding itself",
        )

    @staticmethod
    def _slider(option: SamplingOption, visible: bool) -> gr.Slider:
        step = 1 if option.kind == "int" else 0.1
        label = option.name.replace("_", " ").capitalize()
        return gr.Slider(
            option.low, option.high, value=option.default, step=step, label=label, info=option.help, visible=visible
        )

    def _recipe(self) -> None:
        with gr.Accordion("Recipe of an image", open=False):
            self.upload = gr.File(label="A PNG that condgen generated", file_types=[".png"], height=120)
            self.recipe = gr.JSON(label="Recipe", elem_id="recipe")

    def _connect(self) -> None:
        start = [self.prompt.submit, self.go.click]
        inputs = [self.prompt, self.count, self.seed, self.prior, *self.sliders.values()]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        buttons = [self.go, self.stop]
        # in sequence: in parallel, the buttons of a quick failure could be set before those of the start
        begun = gr.on(start, lambda: (*_buttons(True), theme.line("Waiting.")), None, [*buttons, self.canvas], **quick)
        generated = begun.then(
            self._generate_function(),
            inputs,
            [self.images, self.last_seed, self.archive, self.canvas],
            api_name="generate",
            api_description="Generates images from a prompt: the images, the seed of the first, a zip, a line of text.",
            preprocess=False,  # raw values: `session.check` validates them
            show_progress="minimal",
            show_progress_on=[self.canvas],
            concurrency_id="generate",
            concurrency_limit=1,
        )
        for ended in (generated.success, generated.failure):
            ended(lambda: _buttons(False), None, buttons, **quick)
        # a stopped request also ends as a failed one, before or after the answer to the click: the browser keeps which
        here: dict[str, Any] = {"api_visibility": "private"}
        begun.then(None, None, None, js="() => { window.stopped = false; }", **here)
        self.stop.click(None, None, None, js="() => { window.stopped = true; }", **here)
        ends = f"() => window.stopped ? {json.dumps(theme.line(STOPPED))} : {json.dumps(theme.line(FAILED))}"
        generated.failure(None, None, self.canvas, js=ends, **here)
        stopped = (*_buttons(False), theme.line(STOPPED))
        self.stop.click(lambda: stopped, None, [*buttons, self.canvas], cancels=[generated], **quick)
        self.prior.input(self._offer, self.prior, list(self.sliders.values()), **quick)
        self.reuse.click(None, self.last_seed, self.seed, js=f"(last) => last ? Number(last) : {RANDOM}", **here)
        self.random.click(None, None, self.seed, js=f"() => {RANDOM}", **here)
        self.upload.upload(self._open, self.upload, [self.recipe, *inputs], **here)

    def _generate_function(self):
        """`generate` with one parameter per option of the model, so that the API names them."""

        def generate(prompt, count, seed, prior, *values):
            with user_errors():
                options = dict(zip(self.sliders, values, strict=True))
                request = session.check(self.model, prompt, count, seed, prior, options)
                for snapshot in self.session.generate(request):
                    yield self._show(snapshot)

        names = ["prompt", "count", "seed", "prior", *self.sliders]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        generate.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        return generate

    def _show(self, snapshot: session.Snapshot) -> tuple:
        for note in snapshot.notes:
            gr.Warning(_text(note), title="Note")
        images = [(str(one.path), one.caption) for one in snapshot.done]
        archive = str(snapshot.archive) if snapshot.archive else None
        return images, str(snapshot.request.seed), archive, theme.canvas(snapshot)

    def _offer(self, prior: str) -> list:
        """Shows the options of a prior, each with its range."""
        return self._slider_updates({option.name: option for option in self.model.sampling_options(prior)}, {})

    def _slider_updates(self, options: dict[str, SamplingOption], values: dict[str, float]) -> list:
        updates = []
        for name in self.sliders:
            if option := options.get(name):
                value = {"value": values[name]} if name in values else {}
                updates.append(gr.update(visible=True, minimum=option.low, maximum=option.high, **value))
            else:
                updates.append(gr.update(visible=False))
        return updates

    def _open(self, path: str) -> list:
        """Shows the recipe in an uploaded image and fills the controls with it."""
        with user_errors():
            recipe, request, notes = session.open_recipe(self.model, Path(path))
            for note in notes:
                gr.Warning(_text(note), title="Note")
            if request is None:
                return [recipe, *[gr.skip()] * (4 + len(self.sliders))]
            options = {option.name: option for option in self.model.sampling_options(request.prior)}
            sliders = self._slider_updates(options, request.options)
            return [recipe, request.prompt, request.count, request.seed, request.prior, *sliders]


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows errors as messages on the page; logs unexpected ones under an id that the message names."""
    try:
        yield
    except CondgenError as error:
        raise gr.Error(_text(str(error)), title="Please check", print_exception=False) from None
    except Exception as error:
        if is_out_of_memory(error):
            advice = "Ask for fewer images, or close other programs."
            raise gr.Error(_text(out_of_memory(error, advice)), print_exception=False) from None
        number = secrets.token_hex(4)
        log.exception("error %s", number)
        message = f"Something went wrong (error {number}). See the log of the studio."
        raise gr.Error(message, print_exception=False) from None


def _text(message: str) -> str:
    """Escapes a message, which is shown as HTML and may quote a visitor's input."""
    return html.escape(message, quote=False)


def _buttons(busy: bool) -> tuple:
    return gr.update(visible=not busy), gr.update(visible=busy)
