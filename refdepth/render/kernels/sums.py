"""Adding up the gradients that work items summed on their own."""

from __future__ import annotations

from refdepth.compiled import kernel
from refdepth.render.kernels.geometry import Floats, Offsets


@kernel
def gather_partial(ranges: Offsets, offsets: Offsets, partial: Floats, out: Floats) -> None:
    """Adds the items' sums into `out` (G, N, C) in the order of the items, which are split evenly
    over the groups. Item i holds `partial[offsets[i]:offsets[i + 1]]` (n, C) for the rows
    `ranges[i, 0]` to `ranges[i, 1]` of its group."""
    groups, _, columns = out.shape
    for group in range(groups):
        out[group] = 0
        for item in range(len(ranges) * group // groups, len(ranges) * (group + 1) // groups):
            first = ranges[item, 0]
            for i in range(offsets[item + 1] - offsets[item]):
                for column in range(columns):
                    out[group, first + i, column] += partial[offsets[item] + i, column]
