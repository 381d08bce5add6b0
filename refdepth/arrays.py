"""One code for NumPy arrays and for tensors on any device that torch knows.

What is computed pixel by pixel is written once, against the array API standard (`namespace`);
compiled loops have twins in tensor operations. On a device nothing is read back on the way: a value
that decides something stays a tensor, and results are fetched together at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from refdepth.precision import widest_float

if TYPE_CHECKING:
    import torch

Array: TypeAlias = Any
"""A NumPy array or a tensor; where nothing else is said, float32."""


def namespace(array: Array) -> Any:
    """The functions of the array API standard for arrays like this one."""
    return array_namespace(array)


def is_tensor(array: Array) -> bool:
    """Whether it is a tensor. Without torch in the process nothing is."""
    found: bool = is_torch_array(array)
    return found


def put(values: NDArray[Any], device: torch.device | None) -> Array:
    """`values` as a tensor on `device`, float64 as wide as that has; as they are where it is
    None."""
    if device is None:
        return values
    import torch

    host = torch.from_numpy(np.require(values, requirements=["C", "W"]))
    if host.dtype == torch.float64:
        host = host.to(widest_float(device))
    # CUDA takes its own copy before it returns, of memory that is not pinned. Apple's does not.
    return host.to(device, non_blocking=device.type != "mps")


def put_like(values: NDArray[Any], array: Array) -> Array:
    """`values` where `array` lives."""
    return put(values, array.device if is_tensor(array) else None)


def as_tensor(values: Array, device: torch.device) -> torch.Tensor:
    """An array or a tensor as a tensor on `device`."""
    tensor: torch.Tensor = values.to(device) if is_tensor(values) else put(values, device)
    return tensor


def brought(values: Array, device: torch.device | None) -> Array:
    """`values` as a tensor on `device`, or where that is None as a NumPy array."""
    return fetch(values) if device is None else as_tensor(values, device)


def fetch(array: Array) -> NDArray[Any]:
    """`array` as a NumPy array; waits for its device."""
    if not is_tensor(array):
        return np.asarray(array)
    found: NDArray[Any] = array.detach().cpu().numpy()
    return found


def fetch_all(*arrays: Array) -> tuple[NDArray[Any], ...]:
    """The same of several float32 arrays, which wait for their device once."""
    if not any(map(is_tensor, arrays)):
        return tuple(map(np.asarray, arrays))
    import torch

    parts = [array.detach().to(torch.float32).reshape(-1) for array in arrays]
    ends = np.cumsum([len(part) for part in parts])[:-1]
    flat = torch.cat(parts).cpu().numpy()
    pieces = np.split(flat, ends)
    return tuple(
        piece.reshape(tuple(array.shape)) for piece, array in zip(pieces, arrays, strict=True)
    )


def fetch_numbers(numbers: Sequence[Any]) -> list[float]:
    """Numbers, some of them tensors without dimensions, which wait for their device once."""
    there = [number for number in numbers if is_tensor(number)]
    if not there:
        return [float(number) for number in numbers]
    import torch

    got = iter(torch.stack([one.detach().to(torch.float32) for one in there]).tolist())
    return [next(got) if is_tensor(number) else float(number) for number in numbers]


def at_least(values: Array, least: float) -> Array:
    """`values`, those below `least` raised to it. The standard's `maximum` takes arrays alone: a
    number would go to the device first, and wait for it."""
    return values.clamp_min(least) if is_tensor(values) else np.maximum(values, least)


def at_most(values: Array, most: float) -> Array:
    """`values`, those above `most` lowered to it."""
    return values.clamp_max(most) if is_tensor(values) else np.minimum(values, most)


def median_of(values: Array, known: Array) -> Array:
    """The median of `values` where they are `known` (on a device the lower of the middle two); 1
    where none is."""
    if not is_tensor(values):
        return np.median(values[known]) if known.any() else 1.0
    import torch

    # `nanmedian` would wait for the device.
    ordered = torch.where(known, values, torch.inf).flatten().sort().values
    middle = ((known.sum() - 1) // 2).clamp_min(0)
    return torch.where(known.any(), ordered.gather(0, middle[None])[0], 1.0)


def at_pixels(
    shape: tuple[int, int],
    where: tuple[NDArray[np.int64], NDArray[np.int64]],
    values: Array,
    kept: Array,
) -> Array:
    """A map of `shape` with `values` (N,) at the pixels `where`, given as rows and columns (N,)
    each; 0 elsewhere. Only those `kept` (N,) count; of several in one pixel the last does."""
    rows, columns = where
    if not is_tensor(values):
        drawn = np.zeros(shape, np.float32)
        drawn[rows[kept], columns[kept]] = values[kept]
        return drawn
    import torch

    count, pixels = len(rows), shape[0] * shape[1]
    if not count:
        return torch.zeros(shape, device=values.device)
    cell = put_like(rows * shape[1] + columns, values)
    order = torch.where(kept, torch.arange(count, device=values.device), -1)
    last = torch.full((pixels,), -1, dtype=torch.int64, device=values.device)
    last = last.scatter_reduce(0, cell, order, "amax")
    return torch.where(last >= 0, values[last.clamp_min(0)].to(torch.float32), 0).reshape(shape)
