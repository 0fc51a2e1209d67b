"""The studio: a page where a model is used, and the API behind it.

    launch(build("scenes32"))

    from gradio_client import Client
    images, seed, archive, _ = Client("http://127.0.0.1:7860").predict(prompt="a red circle", api_name="/paint")

Gradio is imported here, in `finding`, `latent` and `look`, nowhere else.
"""

from __future__ import annotations

import html
import inspect
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError, SamplingOption
from condgen.files.registry import find
from condgen.pipelines.auto import task_of
from condgen.pipelines.encoder import ImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.text_to_image import TextToImage
from condgen.retrieval.search import Finder, encoder_of, gallery_of
from condgen.studio import latent, session
from condgen.studio import search as finding
from condgen.studio import theme as look

log = logging.getLogger("condgen.studio")
RANDOM = -1


def build(
    model: TextToImage | ImageEncoder | LatentModel | str | None = None,
    data: str = "",
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> gr.Blocks:
    """The studio of a model: a loaded one, a path or name (see `condgen list`), or None for the one in the package.

    Where models with codes are found, it has a tab for these; of such a model, it is that alone.

    Args:
        data: images; the page then finds some of them by words or by an image, instead of painting.
        progress: called with progress while they are embedded.

    Raises:
        CondgenError: an encoder without data; else as in `TextToImage.load`, `retrieval.search.encoder_of`, `Gallery`.
    """
    if data:
        encoder = encoder_of(model)
        finder = Finder(encoder, gallery_of(encoder, data))
        finder.embed(None, progress)
        return finding.Finding(finder, plainly).page
    if not isinstance(model, TextToImage | ImageEncoder | LatentModel):
        model = find(model)
    task = task_of(model) if isinstance(model, Path) else model.kind().task
    if task.endswith("encoding"):
        raise CondgenError("An encoder generates nothing. Give it images to search, with --data PATH.")
    if task == "unconditional":
        return latent.page_of(latent.shelf_of(model), plainly)
    return Studio(model if isinstance(model, TextToImage) else TextToImage.load(model), latent.shelf_of()).page


def launch(page: gr.Blocks, **options: Any) -> None:
    """Starts the server with what every studio needs: our look, small uploads, no tracebacks to visitors."""
    page.launch(
        theme=look.theme(),
        css=look.CSS,
        max_file_size="5mb",
        show_error=False,
        enable_monitoring=False,
        ssr_mode=False,
        footer_links=["api", "settings", "runs"],
        **options,
    )


class Studio:
    """Components and what they do; `page` is the whole.

    Args:
        model: paints; one order at a time.
        shelf: models with codes, for a tab beside.
    """

    def __init__(self, model: TextToImage, shelf: latent.Shelf):
        self.model, self.easel = model, session.Easel(model)
        with gr.Blocks(title="condgen studio", analytics_enabled=False, delete_cache=(3600, 86400)) as self.page:
            about = f"{html.escape(model.name)} · {model.size} × {model.size} pixels"
            gr.HTML(f"<h1>condgen studio</h1><p>{about}</p>", elem_id="title")
            with gr.Tab("Paint") if shelf else nullcontext():
                self._header()
                with gr.Row():
                    with gr.Column(scale=3, min_width=320, elem_classes=["pixels"] if model.size < 128 else []):
                        self._stage()
                    with gr.Column(scale=2, min_width=280):
                        self._settings()
                        self._recipe()
            if shelf:
                with gr.Tab("Latent space") as tab:
                    latent.Latent(shelf, plainly, tab.select)
            self._connect()
        self.page.queue(max_size=32, api_open=False)

    def _header(self) -> None:
        examples = session.examples_of(self.model)
        with gr.Row(elem_id="prompt-row"):
            hint = examples[0] if examples else "Say what to paint"
            self.prompt = gr.Textbox(
                label="Prompt", placeholder=hint, show_label=False, container=False, scale=5, elem_id="prompt"
            )
            self.go = gr.Button("Paint", variant="primary", scale=1, elem_id="paint")
            self.stop = gr.Button("Stop", variant="stop", scale=1, elem_id="stop", visible=False)
        if examples:
            gr.Examples(
                [[text] for text in examples], self.prompt, label="Try", elem_id="examples", api_visibility="private"
            )

    def _stage(self) -> None:
        self.canvas = gr.HTML(look.resting(), label="Progress", elem_id="canvas")
        self.pictures = gr.Gallery(
            label="Images",
            show_label=False,
            columns=2,
            object_fit="contain",
            height="auto",
            interactive=False,
            buttons=["download", "fullscreen"],
            elem_id="pictures",
        )
        self.archive = gr.DownloadButton("Download all (zip)", size="sm", elem_id="archive")

    def _settings(self) -> None:
        model = self.model
        self.count = gr.Slider(1, session.MOST, value=4, step=1, label="Images")
        with gr.Group():
            with gr.Row():
                self.seed = gr.Number(RANDOM, label="Seed", info="-1 draws one", min_width=120)
                self.last_seed = gr.Textbox(  # text, for a page cannot hold every seed as a number
                    label="Last seed",
                    info="of the first image",
                    placeholder="none yet",
                    interactive=False,
                    min_width=120,
                    elem_id="last-seed",
                )
            with gr.Row():
                self.reuse = gr.Button("Reuse last seed", size="sm", min_width=120)
                self.random = gr.Button("Random seed", size="sm", min_width=120)
        own = {option.name for option in model.sampling_options()}
        sliders = {name: self._slider(option, name in own) for name, option in session.options_of(model).items()}
        self.sliders = sliders
        self.prior = gr.Dropdown(
            session.priors_of(model),
            value=model.default_prior,
            label="Prior",
            info="how words become an image embedding; none: the text embedding itself",
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
            self.upload = gr.File(label="A PNG that condgen painted", file_types=[".png"], height=120)
            self.recipe = gr.JSON(label="Recipe", elem_id="recipe")

    def _connect(self) -> None:
        start = [self.prompt.submit, self.go.click]
        asked = [self.prompt, self.count, self.seed, self.prior, *self.sliders.values()]
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        buttons = [self.go, self.stop]
        # one after the other: side by side, the buttons of a quick failure could be set before those of the start
        generated = gr.on(start, lambda: _buttons(True), None, buttons, **quick).then(
            self._paint_function(),
            asked,
            [self.pictures, self.last_seed, self.archive, self.canvas],
            api_name="paint",
            api_description="Paints a prompt. Gives the images, the seed of the first, a zip and a line of text.",
            preprocess=False,  # raw values, so that `session.check` is the one gate
            show_progress="minimal",
            show_progress_on=[self.canvas],
            concurrency_id="paint",
            concurrency_limit=1,
        )
        generated.success(lambda: _buttons(False), None, buttons, **quick)
        generated.failure(lambda: _ended("The last request was not finished."), None, [*buttons, self.canvas], **quick)
        stopped = "Stopped. Images that were finished are kept."
        self.stop.click(lambda: _ended(stopped), None, [*buttons, self.canvas], cancels=[generated], **quick)
        self.prior.input(self._offer, self.prior, list(self.sliders.values()), **quick)
        self.reuse.click(
            None, self.last_seed, self.seed, js=f"(last) => last ? Number(last) : {RANDOM}", api_visibility="private"
        )
        self.random.click(None, None, self.seed, js=f"() => {RANDOM}", api_visibility="private")
        filled = [self.prompt, self.count, self.seed, self.prior, *self.sliders.values()]
        self.upload.upload(self._open, self.upload, [self.recipe, *filled], api_visibility="private")

    def _paint_function(self):
        """`generate` with one parameter for each option of the model, so that the API names them."""

        def paint(prompt, count, seed, prior, *values):
            with plainly():
                options = dict(zip(self.sliders, values, strict=True))
                order = session.check(self.model, prompt, count, seed, prior, options)
                for view in self.easel.generate(order):
                    yield self._show(view)

        names = ["prompt", "count", "seed", "prior", *self.sliders]
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        paint.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        return paint

    def _show(self, view: session.View) -> tuple:
        for note in view.notes:
            gr.Warning(_text(note), title="Note")
        pictures = [(str(one.path), one.caption) for one in view.done]
        archive = str(view.archive) if view.archive else None
        return pictures, str(view.order.seed), archive, look.canvas(view)

    def _offer(self, prior: str) -> list:
        """Shows the options that count with a prior, each with the range it has there."""
        return self._slider_updates({option.name: option for option in self.model.sampling_options(prior)}, {})

    def _slider_updates(self, own: dict[str, SamplingOption], values: dict[str, float]) -> list:
        updates = []
        for name in self.sliders:
            if option := own.get(name):
                value = {"value": values[name]} if name in values else {}
                updates.append(gr.update(visible=True, minimum=option.low, maximum=option.high, **value))
            else:
                updates.append(gr.update(visible=False))
        return updates

    def _open(self, path: str) -> list:
        """Shows the recipe in an uploaded image and fills the controls with it."""
        with plainly():
            recipe, order, notes = session.open_recipe(self.model, Path(path))
            for note in notes:
                gr.Warning(_text(note), title="Note")
            if order is None:
                return [recipe, *[gr.skip()] * (4 + len(self.sliders))]
            own = {option.name: option for option in self.model.sampling_options(order.prior)}
            return [
                recipe,
                order.prompt,
                order.count,
                order.seed,
                order.prior,
                *self._slider_updates(own, order.options),
            ]


@contextmanager
def plainly() -> Iterator[None]:
    """Turns errors into messages for people; what nobody foresaw goes to the log under an id."""
    try:
        yield
    except CondgenError as error:
        raise gr.Error(_text(str(error)), title="Please check", print_exception=False) from None
    except Exception:
        number = secrets.token_hex(4)
        log.exception("error %s", number)
        message = f"Something went wrong (error {number}). The log of the studio says more."
        raise gr.Error(message, print_exception=False) from None


def _text(message: str) -> str:
    """Toasts read HTML, and a message can quote what a stranger typed."""
    return html.escape(message, quote=False)


def _buttons(busy: bool) -> tuple:
    return gr.update(visible=not busy), gr.update(visible=busy)


def _ended(how: str) -> tuple:
    return *_buttons(False), look.line(how)
