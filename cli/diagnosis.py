"""What `refdepth doctor` finds out."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.markup import escape

from refdepth.cli.console import format_bytes, out
from refdepth.cores import usable_cores
from refdepth.devices import mps_available
from refdepth.errors import UnavailableError
from refdepth.pipeline.environment import KEPT_MB, SETTINGS, keep_freed_memory
from refdepth.priors.checkpoints import AUTO_MODEL, cached_checkpoint
from refdepth.priors.network_kinds import LICENCES, licence_of
from refdepth.render.selection import (
    NVDIFFRAST_HELP,
    nvdiffrast_installed,
    nvdiffrast_renderer,
    select_renderer,
)

PACKAGES = {
    "torch": "torch",
    "pycolmap": "refdepth._pycolmap",
    "open3d": "open3d",
    "numba": "numba",
    "transformers": "transformers",
    "numpy": "numpy",
    "array-api-compat": "array_api_compat",
    "scipy": "scipy",
    "pillow": "PIL.Image",
    "pillow-heif": "pillow_heif",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
}
"""Required distribution to the module that has to import. Pillow before pycolmap, see there."""

EXTRAS = {
    "av": ("av", "video input", "pip install 'refdepth[video]'"),
    "viser": ("viser", "refdepth view", "pip install 'refdepth[view]'"),
    "laspy": ("laspy", "LAS and LAZ export", "pip install 'refdepth[las]'"),
    "copclib": ("copclib", "COPC export", "pip install 'refdepth[copc]'"),
    "pye57": ("pye57", "E57 export", "pip install 'refdepth[e57]'"),
    "opencv-python-headless": ("cv2", "printed tags", "pip install 'refdepth[tags]'"),
    "OpenEXR": ("OpenEXR", "EXR export", "pip install 'refdepth[exr]'"),
    "ray": ("ray", "--cluster", "pip install 'refdepth[ray]'"),
}

LOOP_VARIABLES = ("NUMBA_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")
"""How the names begin of environment variables that change how loops run."""

SYSTEM_LIBRARIES = "apt-get install -y libusb-1.0-0 libegl1 libgl1 libx11-6 libudev1 libidn2-0"


@dataclass(kw_only=True)
class Check:
    """One line of the diagnosis."""

    name: str
    ok: bool
    found: str
    needed: bool = True
    """Whether refdepth cannot work without it."""
    remedy: str = ""


@dataclass(kw_only=True)
class Diagnosis:
    """All that `doctor` knows."""

    checks: list[Check] = field(default_factory=list)
    uses: dict[str, str] = field(default_factory=dict)
    """What a run would use: device, renderer, depth model, memory."""

    @property
    def broken(self) -> bool:
        """Whether something needed is missing."""
        return any(check.needed and not check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {"broken": self.broken}


def diagnose() -> Diagnosis:
    """Imports everything once and asks what would be used."""
    diagnosis = Diagnosis()
    diagnosis.checks += [_package(name, module) for name, module in PACKAGES.items()]
    diagnosis.checks += [
        _extra(name, module, purpose, remedy) for name, (module, purpose, remedy) in EXTRAS.items()
    ]
    diagnosis.checks.append(_nvdiffrast())
    diagnosis.uses = _uses()
    return diagnosis


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """The diagnosis as text."""
    for check in diagnosis.checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]" if check.needed else "[yellow]–[/]"
        out.print(f"{mark} {check.name:<13} {escape(check.found)}", soft_wrap=True)
        if check.remedy and not check.ok:
            out.print(f"  [dim]{escape(check.remedy)}[/]", soft_wrap=True)
    out.print()
    for name, value in diagnosis.uses.items():
        out.print(f"{name:<15} {escape(value)}", soft_wrap=True)
    if diagnosis.broken:
        out.print("\n[red]Something needed is missing; see the lines marked ✗.[/]")


def _package(name: str, module: str) -> Check:
    try:
        importlib.import_module(module)
    except ImportError as error:
        remedy = SYSTEM_LIBRARIES if ".so" in str(error) else f"pip install {name}"
        return Check(name=name, ok=False, found=str(error), remedy=remedy)
    except OSError as error:
        return Check(name=name, ok=False, found=str(error), remedy=SYSTEM_LIBRARIES)
    for distribution in (name, f"{name}-cpu"):
        try:
            return Check(name=name, ok=True, found=importlib.metadata.version(distribution))
        except importlib.metadata.PackageNotFoundError:
            continue
    return Check(name=name, ok=True, found="installed")


def _extra(name: str, module: str, purpose: str, remedy: str) -> Check:
    found = importlib.util.find_spec(module) is not None
    text = "installed" if found else f"not installed (for {purpose})"
    with suppress(importlib.metadata.PackageNotFoundError):  # OpenCV has several distributions
        text = importlib.metadata.version(name) if found else text
    return Check(name=name, ok=found, found=text, needed=False, remedy=remedy)


def _nvdiffrast() -> Check:
    ok, text, remedy = True, "installed, and works", NVDIFFRAST_HELP
    try:
        if nvdiffrast_installed():
            nvdiffrast_renderer()
        else:
            ok, text = False, "not installed (renders on NVIDIA GPUs, for `paper` too)"
    except UnavailableError as error:
        ok, text, remedy = False, error.message, error.action or ""
    except Exception as error:  # a broken install of what it needs is a finding, not an end
        ok, text = False, f"{type(error).__name__}: {error}"
    return Check(name="nvdiffrast", ok=ok, found=text, needed=False, remedy=remedy)


def _uses() -> dict[str, str]:
    memory = psutil.virtual_memory()
    uses = {
        "python": f"{platform.python_version()} on {platform.platform(terse=True)}",
        "cores": str(usable_cores()),
        "memory": f"{format_bytes(memory.total)}, {format_bytes(memory.available)} free",
        "disk": f"{format_bytes(shutil.disk_usage(Path()).free)} free here",
    }
    try:
        import torch

        cuda = torch.cuda.is_available()
        uses["device"] = f"cuda ({torch.cuda.get_device_name(0)})" if cuda else "cpu"
        if mps_available():
            uses["device"] += " (with --device mps the Apple GPU)"
        renderer = select_renderer()
        uses["renderer"] = renderer.name + ("" if renderer.differentiable else " (cpu for paper)")
    except Exception as error:  # as in `_nvdiffrast`
        uses["renderer"] = f"none ({error})"
    uses["depth model"] = _depth_model()
    uses["other networks"] = _other_networks()
    uses |= _kernels()
    kept = keep_freed_memory()
    uses["memory kept"] = f"up to {KEPT_MB} MB once freed" if kept else "as the system has it"
    uses["environment"] = " ".join(f"{name}={value}" for name, value in _variables().items())
    return uses


def _depth_model() -> str:
    """What `auto` stands for here, its licence, and how to get it."""
    named = f"{AUTO_MODEL} ({licence_of(AUTO_MODEL)})"
    if cached_checkpoint(AUTO_MODEL) is not None:
        return named
    return f"{named} is not in the local cache: `hf download {AUTO_MODEL}` gets it; else sweep"


def _other_networks() -> str:
    """Networks in the local cache whose licence is known."""
    here = [
        f"{model} ({licence})"
        for model, licence in LICENCES.items()
        if model != AUTO_MODEL and cached_checkpoint(model) is not None
    ]
    return "; ".join(here) or "none of those in the README is in the local cache"


def _kernels() -> dict[str, str]:
    """What compiled loops run on, where their code is kept, and whether it is there."""
    try:
        from refdepth.compilation import known_kernels, uncompiled
        from refdepth.kernel_cache import kernels_folder
        from refdepth.threads import threading
    except Exception as error:  # as in `_nvdiffrast`
        return {"threads": f"none ({error})"}
    try:
        found = {"threads": str(threading())}
    except UnavailableError as error:
        found = {"threads": f"none ({error})"}
    folder = kernels_folder()
    if folder is None:
        kept = "nowhere, so every start compiles again; set NUMBA_CACHE_DIR"
    else:
        known = len(known_kernels())
        kept = f"{known - len(uncompiled())} of {known} in {folder}"
    return found | {"compiled loops": kept}


def _variables() -> dict[str, str]:
    """Variables that are set and change how fast loops run: the command line's own, the user's."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if name in SETTINGS or name.startswith(LOOP_VARIABLES)
    }
