"""`condgen doctor`: checks the installation, and says how to repair what it finds."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from condgen import __version__
from condgen.cli.terminal import human, show_json
from condgen.contracts import CondgenError, CondgenWarning
from condgen.nn import devices as devices_of
from condgen.studio.server.loopback import PROXIES

HELP = "check installation, device and models; exit code 1 if there is a fault"
PARTNERS = {"torchvision": "torchvision", "open_clip": "open-clip-torch"}


@dataclass(frozen=True)
class Finding:
    """The result of one check: its name, what was found, whether it is fine, and what to do if not."""

    name: str
    seen: str
    ok: bool = True
    cure: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The output format."""
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Returns 0 if all is fine, 1 if there is a fault."""
    found = []
    for finding in examine():
        found.append(finding)
        if not args.json:
            print(f"{'ok   ' if finding.ok else 'FAULT'} {finding.name}: {finding.seen}", flush=True)
            if finding.cure:
                print(f"      {finding.cure}")
    ok = all(finding.ok for finding in found)
    if args.json:
        show_json({"ok": ok, "findings": [asdict(finding) for finding in found]})
    return 0 if ok else 1


def examine() -> Iterator[Finding]:
    """Yields every finding, cheap checks first; loads models only if torch works."""
    yield Finding("condgen", f"{__version__} in {Path(__file__).parents[1]}")
    yield python()
    yield machine()
    yield working_folder()
    yield from dependencies()
    computes = device()
    yield computes
    if not computes.ok:
        return
    yield precision()
    yield launcher()
    yield proxy()
    yield from (partner(module, package) for module, package in PARTNERS.items())
    yield from models()


def python() -> Finding:
    """3.11 or newer."""
    cure = "" if sys.version_info >= (3, 11) else "condgen needs Python 3.11 or newer."
    return Finding("python", f"{platform.python_version()} at {sys.executable}", not cure, cure)


def machine() -> Finding:
    """Checks system, available cores and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = human(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        memory = "unknown"
    return Finding("machine", f"{platform.platform()}, {cores} cores, {memory} of memory")


def working_folder() -> Finding:
    """Checks whether images can be written to the working folder."""
    try:
        with tempfile.TemporaryFile(dir="."):
            return Finding("folder", f"{Path.cwd()} can be written")
    except OSError as error:
        return Finding("folder", f"{Path.cwd()}: {error.strerror}", False, "Go to another folder, or always give -o.")


def dependencies() -> Iterator[Finding]:
    """Checks whether the installed version of every dependency is in range."""
    from packaging.requirements import Requirement

    for line in _requirements():
        need = Requirement(line)
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        install = f'pip install "{str(need).split(";")[0].strip()}"'
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield Finding(need.name, "not installed", False, install)
            continue
        fits = need.specifier.contains(version, prereleases=True)
        seen = f"{version}, {'in' if fits else 'outside of'} {need.specifier or 'any version'}"
        yield Finding(need.name, seen, fits, "" if fits else install)


def _requirements() -> list[str]:
    """The requirements in the pyproject.toml of a checkout, else those of the installed package."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    if project.is_file():
        import tomllib

        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    try:
        return metadata.requires("condgen") or []
    except metadata.PackageNotFoundError:
        return []


def device() -> Finding:
    """Checks whether torch can be imported, and which devices it supports."""
    try:
        import torch
    except Exception as error:
        return Finding("torch", _first_line(error), False, "Install torch again: pip install --force-reinstall torch")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        devices = f"CUDA {torch.version.cuda}: {names} (--device cuda)"
    else:
        built = f"built for CUDA {torch.version.cuda}, no GPU found" if torch.version.cuda else "built without CUDA"
        devices = f"CPU with {torch.get_num_threads()} threads ({_threads_reason()}), {built}"
    return Finding("device", f"torch {torch.__version__}, {devices}")


def _threads_reason() -> str:
    """Why torch has this number of threads."""
    for name in devices_of.NUMBER:
        if devices_of.is_chosen() and name in os.environ:
            return f"{name}={os.environ[name]}"
    return f"of {devices_of.cores()} cores; OMP_NUM_THREADS sets another number"


def precision() -> Finding:
    """Reports the floating-point precision of training, and why it is not another one."""
    from condgen import distributed

    try:
        chosen = distributed.precision()
    except CondgenError as error:
        return Finding("precision", str(error), False, f"Unset {distributed.PRECISION}, or set it to no.")
    source = f" ({distributed.PRECISION}={chosen})" if os.environ.get(distributed.PRECISION) else ""
    if chosen == "bf16":
        return Finding("precision", f"training uses bf16{source}; {distributed.PRECISION}=no trains with fp32")
    if distributed.supports_bf16():
        return Finding("precision", f"training uses fp32{source}; without it, bf16")
    return Finding("precision", f"training uses fp32{source}; no GPU with units for bf16, without which it is slow")


def launcher() -> Finding:
    """Reports the variables by which Accelerate's launcher passes its options, and whether training supports them."""
    from condgen import distributed

    there = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("ACCELERATE_")]
    seen = ", ".join(there) or "no ACCELERATE_ variables"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CondgenWarning)
        try:
            distributed.check_launcher()
        except CondgenError as error:
            return Finding("launcher", f"{seen}: condgen train refuses them", False, str(error))
    return Finding("launcher", seen, cure=" ".join(str(one.message) for one in caught))


def proxy() -> Finding:
    """Reports the proxies of the environment, and whether downloads can use them."""
    there = {name: value for name, value in os.environ.items() if name.lower() in PROXIES and value}
    if not there:
        return Finding("proxy", "none set")
    seen = ", ".join(f"{name}={_without_password(value)}" for name, value in sorted(there.items()))
    seen += ": downloads use it, the studio does not use it to reach itself"
    if any(value.lower().startswith("socks") for value in there.values()) and not importlib.util.find_spec("socksio"):
        return Finding("proxy", seen, cure="Downloads through a SOCKS proxy need a package: pip install socksio")
    return Finding("proxy", seen)


def _without_password(url: str) -> str:
    """Hides the name and password of a URL, if it has them."""
    scheme, mark, rest = url.rpartition("://")
    return f"{scheme}{mark}{'...@' if '@' in rest else ''}{rest.rpartition('@')[2]}"


def partner(module: str, package: str) -> Finding:
    """Checks torchvision or open_clip, which fail to import if they were built for another torch."""
    if importlib.util.find_spec(module) is None:
        return Finding(module, "not installed; only encoders of other libraries need it")
    try:
        importlib.import_module(module)
        return Finding(module, metadata.version(package))
    except Exception as error:
        return Finding(
            module,
            f"does not fit the installed torch ({_first_line(error)})",
            False,
            "It was built for another torch. Install them together, from one index, and let the resolver choose: "
            "pip install --force-reinstall torch torchvision open-clip-torch "
            "--index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple",
        )


def models() -> Iterator[Finding]:
    """Checks whether every model loads."""
    from condgen.files.registry import found
    from condgen.pipelines.auto import load_folder

    folders = found()
    if not folders:
        yield Finding("models", "none found", cure="Train one (condgen train scenes32 -o runs/scenes32).")
    for name, folder in folders.items():
        try:
            model = load_folder(folder)
        except CondgenError as error:
            yield Finding(f"model {name}", str(error), False, f"Copy or export it again, or remove {folder}.")
        else:
            yield Finding(f"model {name}", f"loads, {model.size} x {model.size}, {model.model_id}, {folder}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
