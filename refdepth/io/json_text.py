"""Strict JSON: what every parser reads, not only Python's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def to_json(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """`value` as JSON (RFC 8259), in which NaN and infinity have no form: they become null.

    Takes numpy scalars, arrays and paths too. Raises `TypeError` for what has no JSON form.
    """
    separators = (",", ":") if indent is None else None
    return json.dumps(
        _plain(value), indent=indent, sort_keys=sort_keys, separators=separators, allow_nan=False
    )


def _plain(value: Any) -> Any:
    """Dictionaries, lists and scalars alone."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value.as_posix() if isinstance(value, Path) else value
