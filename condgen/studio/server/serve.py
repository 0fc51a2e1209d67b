"""The command line of the studio; a studio that others can reach needs a password."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError
from condgen.nn import devices
from condgen.studio.server.cache import UNSAVED, private_folder

UNITS = {"KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    about = "Serves the condgen studio: one page for all models."
    flags = argparse.ArgumentParser(description=about)
    flags.add_argument("--model", help="a path, or a name that `condgen list` shows; default: the one in the package")
    text = "a folder or table of images that the page offers to search; may be given several times"
    flags.add_argument("--data", action="append", default=[], metavar="PATH", help=text)
    text = "folder of generated images (default outputs)"
    flags.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help=text)
    text = "size of that folder above which nothing more is kept (default 4GB)"
    flags.add_argument("--outputs-limit", default="4GB", metavar="SIZE", help=text)
    flags.add_argument("--no-save", action="store_true", help="keep images only while the studio is open")
    text = "device to compute on: auto (default: a GPU if there is one), cpu, cuda, cuda:1, mps"
    flags.add_argument("--device", default="auto", help=text)
    flags.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    flags.add_argument("--port", type=int, help="default: the first free one from 7860")
    text = "path below which a proxy serves the page, such as /studio for https://example.org/studio"
    flags.add_argument("--root-path", default="", metavar="PATH", help=text)
    flags.add_argument("--share", action="store_true", help="open a public link through gradio.live")
    text = "lets this person in; several times for several people, who do not see each other's images; also one a line "
    flags.add_argument("--auth", action="append", default=[], metavar="NAME:PASSWORD", help=text + "in $CONDGEN_AUTH")
    flags.add_argument("--no-auth", action="store_true", help="allow others without a password")
    flags.add_argument("--mcp", action="store_true", help="offer the functions as tools to language models (MCP)")
    return flags


def credentials(accounts: list[str]) -> list[tuple[str, str]]:
    """The names and passwords of 'name:password' each; `CondgenError` names what is wrong, without a password."""
    found: dict[str, str] = {}
    for account in accounts:
        name, _, password = account.partition(":")
        name = name.strip()
        if not name or not password:
            raise CondgenError("--auth must be NAME:PASSWORD.")
        if name in found:
            raise CondgenError(f"--auth names {name} twice.")
        found[name] = password
    return list(found.items())


def check_exposure(host: str, share: bool, auth: list[tuple[str, str]], no_auth: bool) -> None:
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


def check_mcp(several: bool) -> None:
    """Refuses `--mcp` where it cannot work.

    Raises:
        CondgenError: several people use the studio, or the package for MCP is missing.
    """
    if several:
        raise CondgenError(
            "--mcp is for a studio of one person: its calls carry no name, so people would see each other's images. "
            "Leave --auth, --no-auth and --share out."
        )
    if importlib.util.find_spec("mcp") is None:
        raise CondgenError("--mcp needs a package that is not installed: pip install 'condgen[mcp]'.")


def size_of(text: str) -> int:
    """The bytes of a size such as 4GB or 500MB; `CondgenError` for another text."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([KMGT]B)", text.strip().upper())
    if not match or not float(match[1]):
        raise CondgenError(f"--outputs-limit must be a size such as 4GB or 500MB, got {text[:40]!r}.")
    return int(float(match[1]) * UNITS[match[2]])


def check_outputs(folder: Path) -> None:
    """Raises `CondgenError` where images cannot be written."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise CondgenError(f"Images cannot be written to {folder}. Give another folder with --outputs, or --no-save.")


def main(argv: list[str] | None = None) -> int:
    """Builds and runs the studio until it is interrupted; gives the exit status."""
    args = parser().parse_args(argv)
    devices.settle()
    try:
        accounts = args.auth or ([] if args.no_auth else os.environ.get("CONDGEN_AUTH", "").split("\n"))
        auth = credentials([account for account in accounts if account.strip()])
        check_exposure(args.host, args.share, auth, args.no_auth)
        several = bool(auth) or args.no_auth or args.share or not is_loopback(args.host)
        if args.mcp:
            check_mcp(several)
        limit = size_of(args.outputs_limit)
        if not args.no_save:
            check_outputs(args.outputs)
        check_address(args.host, args.port)
        with _ended_by_signals(), private_folder() as folder:
            outputs = folder / UNSAVED if args.no_save else args.outputs
            people = {"several": several, "trains": bool(auth) or not several}
            serve(args, outputs, {"limit": limit, "data": tuple(args.data), **people}, auth)
    except CondgenError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before it was open
        return 130
    return 0


def serve(args: argparse.Namespace, outputs: Path, options: dict[str, Any], auth: list[tuple[str, str]]) -> None:
    """Loads the model, opens the page and waits until it is closed.

    Args:
        options: of `app.build`.

    Raises:
        CondgenError: the model cannot be opened, or the device or MCP does not work.
    """
    from condgen.studio.app import build, launch

    device = devices.chosen(args.device)
    devices.check_device(device)
    page = build(args.model, device, outputs, **options)
    page.studio.open(page.studio.library.default)
    host = f"[{args.host}]" if ":" in args.host else args.host
    network = {"server_name": host, "server_port": args.port, "share": args.share, "auth": auth or None}
    launch(
        page, **network, root_path=args.root_path, mcp_server=args.mcp, prevent_thread_lock=True, quiet=True,
    )  # fmt: skip
    if args.mcp and not page.mcp_server:
        page.close()
        raise CondgenError(f"{page.mcp_error or 'The MCP server did not start'}. See pip install 'condgen[mcp]'.")
    address = page.share_url or page.local_url
    print(f"The studio is open at {address} (Ctrl-C closes it)", flush=True)
    page.block_thread()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, SIGTERM and SIGHUP end this process as Ctrl-C does, so that it leaves no files behind."""

    def end(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # Python sets handlers in no other
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if here and hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
