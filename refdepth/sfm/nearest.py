"""Matching the SIFT features of pairs of photos: each other's exact nearest neighbours.

Not pycolmap's own search: where several threads search at once, its BLAS lets two of them share
memory now and then, and a pair ends with wrong matches or none, never the same twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth._pycolmap import pycolmap

Descriptors = NDArray[np.uint8]
Numbers = tuple[int, int]

_LENGTH = 512.0
"""Of a descriptor, as COLMAP rounds it to bytes."""
_ROWS = 256
"""Whose products with all of another photo stay in a core's cache."""
_PAIRS_PER_THREAD = 8
"""Whose matches are written at once."""


def match_pairs(
    database: Path, pairs: Sequence[Numbers], *, threads: int, report: Callable[[int], None]
) -> None:
    """Writes the matches of those `pairs` of image numbers to `database` that have none yet.
    `report` is told how many pairs have theirs."""
    with pycolmap.Database.open(database) as opened, ThreadPoolExecutor(threads) as pool:
        missing = [sorted(pair) for pair in pairs if not opened.exists_matches(*pair)]
        size = _PAIRS_PER_THREAD * threads
        for start in range(0, len(missing), size):
            report(len(pairs) - len(missing) + start)
            block = missing[start : start + size]
            read = {image: _descriptors(opened, image) for pair in block for image in pair}
            both = [(read[first], read[second]) for first, second in block]
            with pycolmap.DatabaseTransaction(opened):
                for pair, matches in zip(block, pool.map(_match, both), strict=True):
                    opened.write_matches(*pair, matches)


def _match(both: tuple[Descriptors, Descriptors]) -> NDArray[np.uint32]:
    return mutual_matches(*both)


def mutual_matches(first: Descriptors, second: Descriptors) -> NDArray[np.uint32]:
    """Rows of `first` (N, 128) and of `second` (M, 128) that match, `(K, 2)`, in order of `first`.

    Each is the other's nearest by angle, close enough, and clearly nearer than the next one; what
    that means is in `pycolmap.SiftMatchingOptions`. Products of bytes are exact in single
    precision, so that no result depends on the machine.
    """
    of_second = _nearest(first, second)
    rows = np.flatnonzero(of_second >= 0)
    candidates = np.unique(of_second[rows])
    back = np.full(len(second), -1)
    back[candidates] = _nearest(second[candidates], first)
    rows = rows[back[of_second[rows]] == rows]
    return np.stack([rows, of_second[rows]], axis=1).astype(np.uint32)


def _nearest(some: Descriptors, others: Descriptors) -> NDArray[np.int64]:
    """For each of `some` the row of `others` that lies nearest, -1 where none stands out."""
    nearest = np.full(len(some), -1)
    if len(others) == 0:
        return nearest
    options = pycolmap.SiftMatchingOptions()
    columns = others.T.astype(np.float32)
    for start in range(0, len(some), _ROWS):
        products = some[start : start + _ROWS].astype(np.float32) @ columns
        best = products.argmax(axis=1)
        angle = _angle(products[np.arange(len(best)), best])
        close = np.flatnonzero(angle <= options.max_distance)
        products[close, best[close]] = 0
        clear = angle[close] < options.max_ratio * _angle(products[close].max(axis=1))
        nearest[start + close[clear]] = best[close[clear]]
    return nearest


def _angle(product: NDArray[np.float32]) -> NDArray[np.float64]:
    cosine = product.astype(np.float64) / _LENGTH**2
    return np.arccos(np.minimum(cosine, 1))


def _descriptors(opened: Any, image: int) -> Descriptors:
    if not opened.exists_descriptors(image):  # a photo that could not be read
        return np.zeros((0, 128), np.uint8)
    return np.array(opened.read_descriptors(image).data, np.uint8).reshape(-1, 128)
