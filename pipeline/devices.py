"""Which devices there are, and which did the work on a view. CUDA and CPU agree closely and not to
the bit, and nothing is made again because of it: what is mixed must be seen."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refdepth.devices import DeviceName, select_device

_GPUS = Path("/proc/driver/nvidia/gpus")


def place_of(record: Mapping[str, Any]) -> str:
    """Device and renderer in a view's record, like `cpu` or `cuda/nvdiffrast`; empty where it says
    nothing."""
    device, renderer = record.get("device"), record.get("renderer")
    if not isinstance(device, str):
        return ""
    return f"{device}/{renderer}" if isinstance(renderer, str) and renderer != device else device


def count_places(records: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Number of views by the place they were made on, most views first."""
    return dict(Counter(filter(None, map(place_of, records))).most_common())


def aside(places: Mapping[str, int]) -> str:
    """Like `, 12 of them on cuda/nvdiffrast`; empty where all were made on one place."""
    _, *others = places.items() or [("", 0)]
    return "".join(f", {count} of them on {place}" for place, count in others)


def check_device(device: DeviceName) -> None:
    """Raises `UnavailableError` for a device that is asked for by name and is not there."""
    if device in (DeviceName.CUDA, DeviceName.MPS):
        select_device(device)


def gpus() -> list[str]:
    """The NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    return [str(number) for number, _ in enumerate(_GPUS.iterdir())] if _GPUS.is_dir() else []
