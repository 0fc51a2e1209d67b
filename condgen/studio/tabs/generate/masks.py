"""The mask of a generation on the page: how it is drawn, and the values that are advised with it."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.data.sources.images import open_image
from condgen.pipelines.base import Pipeline
from condgen.pipelines.editing.guide import GUIDANCE, NOISE
from condgen.studio.components import defaults, option_fields
from condgen.studio.session import priors_of, sampling_options_of
from condgen.studio.studio import Studio, user_errors

DRAWN = 2_000_000
"""Characters of a drawn mask, at most."""
PREFIX = "data:image/png;base64,"


class MaskDefaults:
    """Shows the guidance and the noise that are advised with a mask, where they still stand at their defaults.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    def show(
        self, name: str, prior: str, options: dict, noise: float, init: Any = None, drawn: Any = None, mask: Any = None
    ) -> tuple:
        """Updates of options and noise after a mask was given or taken away."""
        with user_errors():
            own = defaults(fields_of(self.studio.open(name), prior)).get("guidance")
            guidance, level = (own, GUIDANCE), (NOISE, 1.0)  # without and with a mask
            if not (init and (drawn or mask)):
                guidance, level = guidance[::-1], level[::-1]
            updates = [gr.skip(), level[1] if noise == level[0] else gr.skip()]
            if own is not None and (options or {}).get("guidance", own) == guidance[0]:
                updates[0] = gr.update(value=(options or {}) | {"guidance": guidance[1]})
            return tuple(updates)

    def begin(
        self, name: str, prior: str, options: dict, noise: float, init: Any = None, drawn: Any = None, mask: Any = None
    ) -> tuple:
        """The same after another start image was given, which takes away what was drawn."""
        return self.show(name, prior, options, noise, init, None, mask) if drawn or mask else (gr.skip(), gr.skip())


def reopened(image: Any, init: Any, mask: Any, drawn: Any) -> tuple:
    """After a reload: opens the settings where images guide a generation, and gives the brush its image."""
    opened = gr.update(open=True) if image or init or mask else gr.skip()
    return opened, gr.update(image=init) if init else gr.update(value=None) if drawn else gr.skip()


def drawn_mask(value: Any):
    """The PIL image of a mask that was drawn on the page, a PNG as a data URL; `CondgenError` where it is damaged."""
    if isinstance(value, str) and value.startswith(PREFIX) and len(value) < DRAWN:
        try:
            return open_image(base64.b64decode(value.removeprefix(PREFIX), validate=True), name="the mask")
        except binascii.Error:
            pass
    raise CondgenError("The drawn mask is damaged. Draw it again.")


def fields_of(model: Pipeline, prior: str | None) -> list[dict[str, Any]]:
    """The options that the page offers for a prior of a model, as entries of an `option_form`."""
    priors = priors_of(model)
    options = sampling_options_of(model, prior if prior in priors else "")
    return [option_fields(option) for option in options if not option.advanced]
