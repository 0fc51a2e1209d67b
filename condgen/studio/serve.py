"""The studio from the command line: flags, and the rule that a studio open to others asks for a password."""

from __future__ import annotations

import argparse
import ipaddress
import os
import sys
import tempfile

from condgen.contracts import CondgenError


def parser() -> argparse.ArgumentParser:
    """The flags."""
    flags = argparse.ArgumentParser(description="Opens the condgen studio in this machine's browser.")
    flags.add_argument("--model", help="a path, or a name that `condgen list` shows; default: the one in the package")
    flags.add_argument("--host", default="127.0.0.1", help="address to listen on; default: this machine only")
    flags.add_argument("--port", type=int, help="default: the first free one from 7860")
    flags.add_argument("--share", action="store_true", help="open a public link through gradio.live")
    flags.add_argument("--auth", default=os.environ.get("CONDGEN_AUTH"), help="NAME:PASSWORD; also $CONDGEN_AUTH")
    flags.add_argument("--no-auth", action="store_true", help="let others in without a password")
    return flags


def credentials(auth: str | None) -> tuple[str, str] | None:
    """'name:password' as a pair; None when nothing was given."""
    if not auth:
        return None
    name, _, password = auth.partition(":")
    if not name or not password:
        raise CondgenError("--auth must be NAME:PASSWORD.")
    return name, password


def check_exposure(host: str, share: bool, auth: tuple[str, str] | None, no_auth: bool) -> None:
    """Refuses a studio that others can reach without a password, unless that is asked for.

    Raises:
        CondgenError: with what to do.
    """
    if auth or no_auth or not (share or not is_loopback(host)):
        return
    what = "--share" if share else f"--host {host}"
    raise CondgenError(
        f"{what} lets others use this studio. Give --auth NAME:PASSWORD, or --no-auth if everybody may come in."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main(argv: list[str] | None = None) -> int:
    """Builds and runs the studio until it is interrupted; gives the exit status."""
    args = parser().parse_args(argv)
    try:
        auth = credentials(args.auth)
        check_exposure(args.host, args.share, auth, args.no_auth)
        with tempfile.TemporaryDirectory(prefix="condgen-studio-") as folder:
            os.environ.setdefault("GRADIO_TEMP_DIR", folder)
            from condgen.studio.app import build, launch

            page = build(args.model)
            launch(page, server_name=args.host, server_port=args.port, share=args.share, auth=auth)
    except CondgenError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:  # the port is taken
        print(f"The studio could not start: {error}", file=sys.stderr)
        return 2
    return 0
