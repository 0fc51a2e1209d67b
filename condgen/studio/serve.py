"""The command line of the studio; a studio that others can reach needs a password."""

from __future__ import annotations

import argparse
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from condgen.contracts import CondgenError
from condgen.nn import devices


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    about = "Serves the condgen studio: a page that generates, searches, or shows a latent space."
    flags = argparse.ArgumentParser(description=about)
    flags.add_argument("--model", help="a path, or a name that `condgen list` shows; default: the one in the package")
    flags.add_argument("--outputs", default="outputs", metavar="DIR", help="folder of generated images")
    flags.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    flags.add_argument("--port", type=int, help="default: the first free one from 7860")
    text = "path below which a proxy serves the page, such as /studio for https://example.org/studio"
    flags.add_argument("--root-path", default="", metavar="PATH", help=text)
    flags.add_argument("--device", default="cpu", help="device to compute on: cpu (default), cuda, cuda:1, mps")
    flags.add_argument("--share", action="store_true", help="open a public link through gradio.live")
    flags.add_argument("--auth", default=os.environ.get("CONDGEN_AUTH"), help="NAME:PASSWORD; also $CONDGEN_AUTH")
    flags.add_argument("--no-auth", action="store_true", help="allow others without a password")
    return flags


def credentials(auth: str | None) -> tuple[str, str] | None:
    """Splits 'name:password'; None if no value was given."""
    if not auth:
        return None
    name, _, password = auth.partition(":")
    if not name or not password:
        raise CondgenError("--auth must be NAME:PASSWORD.")
    return name, password


def check_exposure(host: str, share: bool, auth: tuple[str, str] | None, no_auth: bool) -> None:
    """Refuses a studio that others can reach without a password, unless `no_auth`.

    Raises:
        CondgenError: others could reach the studio; the message names the options.
    """
    if auth or no_auth or not (share or not is_loopback(host)):
        return
    option = "--share" if share else f"--host {host}"
    raise CondgenError(
        f"{option} lets others use this studio. Give --auth NAME:PASSWORD, or --no-auth to let everybody in."
    )


def is_loopback(host: str) -> bool:
    """True if only this machine can reach the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(host: str, port: int | None) -> None:
    """Raises `CondgenError` for an address of another machine or a port in use, before anything is loaded."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port or 0), family=family).close()
    except (OSError, OverflowError) as error:
        place = host if port is None else f"{host}, port {port}"
        raise CondgenError(f"The studio cannot listen on {place} ({error}). Try another --host or --port.") from None


@contextmanager
def private_cache() -> Iterator[None]:
    """A private folder for the images that are served, removed at the end; $GRADIO_TEMP_DIR overrides it."""
    if os.environ.get("GRADIO_TEMP_DIR"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="condgen-studio-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["GRADIO_TEMP_DIR"]


def main(argv: list[str] | None = None) -> int:
    """Builds and runs the studio until it is interrupted; gives the exit status."""
    args = parser().parse_args(argv)
    devices.settle()
    try:
        auth = credentials(args.auth)
        check_exposure(args.host, args.share, auth, args.no_auth)
        check_address(args.host, args.port)
        with private_cache():
            from condgen.studio.app import build, launch

            devices.check_device(args.device)

            page = build(args.model, args.device, args.outputs)
            host = f"[{args.host}]" if ":" in args.host else args.host
            network = {"server_name": host, "server_port": args.port, "share": args.share, "auth": auth}
            launch(page, **network, root_path=args.root_path, prevent_thread_lock=True, quiet=True)
            print(f"The studio is open at {page.share_url or page.local_url} (Ctrl-C closes it)", flush=True)
            page.block_thread()
    except CondgenError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
