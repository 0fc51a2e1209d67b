"""The API of trainings, and who may use it.

from gradio_client import Client
client = Client("http://127.0.0.1:7860")
client.predict("digits-vae", "my-digits", minutes=1, api_name="/train_start")
client.predict(api_name="/trainings")
client.predict("my-digits", api_name="/train_stop")
"""

from __future__ import annotations

import gradio as gr

from condgen.contracts import CondgenError
from condgen.studio.library import ModelEntry
from condgen.studio.studio import Studio, user_errors
from condgen.studio.tabs.train.trainings import Trainings, check_order, folder_of

REFUSED = (
    "Trainings can be started only on the machine of the studio, or by people who log in. Open the studio at its local "
    "address, or start it with --auth NAME:PASSWORD."
)


class TrainApi:
    """The endpoints: trainings, train_start, train_stop, train_resume."""

    def __init__(self, studio: Studio, trainings: Trainings):
        self.studio, self.runs = studio, trainings

    def allows(self, request: gr.Request | None) -> bool:
        """Whether somebody may train: the owner of this machine, or who has logged in."""
        known = request is None or not self.studio.several or bool(request.username)
        return self.studio.trains and known

    def check(self, request: gr.Request | None) -> None:
        """Raises `CondgenError` for people who may not train."""
        if not self.allows(request):
            raise CondgenError(REFUSED)

    def model_of(self, name: object) -> ModelEntry:
        """The model of a run, of its last checkpoint if it is not finished; it is loaded.

        Raises:
            CondgenError: it has no model yet, or another model has its name.
        """
        folder = folder_of(name).resolve()
        for entry in self.studio.library.entries().values():
            if entry.folder is not None and entry.folder.resolve() in (folder, folder / "model"):
                self.studio.open(entry.name)
                return entry
        raise CondgenError(
            f"The model of {folder.name} cannot be chosen: it has no checkpoint yet, or another model has its name."
        )

    def connect(self) -> None:
        """Makes the endpoints, on a page that is being built."""
        for endpoint in (self.trainings, self.train_start, self.train_stop, self.train_resume):
            gr.api(endpoint, api_name=endpoint.__name__, concurrency_limit=4)

    def trainings(self, request: gr.Request | None = None) -> dict:
        """Lists the training runs with their states; their messages are for people who may train."""
        with user_errors():
            allowed = self.allows(request)
            hidden = {} if allowed else {"message": ""}
            return {"trainings": [run.as_dict() | hidden for run in self.runs.list()], "may_train": allowed}

    def train_start(
        self, recipe: str, name: str, data: str = "", minutes: float = 0, image_size: int = 0, model_size: str = "",
        device: str = "auto", options: str = "", request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Starts a training as a process of its own; answers when it has taken its arguments and its data."""
        with user_errors():
            self.check(request)
            order = check_order(recipe, name, data, minutes, image_size, model_size, device, options)
            self.runs.start(order)
            return self.runs.await_start(order.name).as_dict() | {"command": order.command}

    def train_stop(self, name: str, request: gr.Request | None = None) -> dict:
        """Asks a training to save a checkpoint and to stop."""
        with user_errors():
            self.check(request)
            return self.runs.stop(name).as_dict()

    def train_resume(self, name: str, request: gr.Request | None = None) -> dict:
        """Goes on with a training from its last checkpoint."""
        with user_errors():
            self.check(request)
            self.runs.resume(name)
            return self.runs.await_start(name).as_dict()
