"""The machine that figures come from, and whether it is quiet."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from refdepth.cores import usable_cores

LAYERS = {"omp": "omppool", "workqueue": "workqueue", "tbb": "tbbpool"}
"""numba's threading layers and their modules."""
SPEED_DEPENDS_ON = ("OMP_", "NUMBA_", "MKL_", "OPENBLAS_", "MALLOC_", "GLIBC_TUNABLES")
"""How variables of the environment begin that are worth recording."""


def layers_present() -> list[str]:
    """numba's threading layers that can be loaded."""
    present = []
    for name, module in LAYERS.items():
        try:
            importlib.import_module(f"numba.np.ufunc.{module}")
        except ImportError:
            continue
        present.append(name)
    return present


def system_tbb() -> str:
    """The TBB that the system's loader knows, or `none`."""
    try:
        known = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    found = re.findall(r"(libtbb\.so\S*) .*=> (\S+)", known.stdout)
    return ", ".join(path for _, path in found) or "none"


def busy_processes() -> list[str]:
    """Processes that take more than a tenth of a core, over a second."""
    shares: dict[psutil.Process, float] = {}
    for wait in (1, 0):
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):  # gone meanwhile
                shares[process] = process.cpu_percent()  # since the last look at the same object
        time.sleep(wait)
    found = [
        (share, f"{process.info['name']} {share:.0f} %")
        for process, share in shares.items()
        if share > 10 and process.pid != os.getpid()
    ]
    return [text for _, text in sorted(found, reverse=True)]


def machine() -> dict[str, Any]:
    """What it is, and whether it is quiet."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "load": os.getloadavg()[0],
        "busy": busy_processes(),
        "cores": usable_cores(),
        "cpu": named[1] if named else platform.processor() or platform.machine(),
        "memory_gb": psutil.virtual_memory().total / 2**30,
        "packages": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("numba", "torch")},
        "layers": layers_present(),
        "system_tbb": system_tbb(),
        "set": {
            name: value for name, value in os.environ.items() if name.startswith(SPEED_DEPENDS_ON)
        },
    }
