"""One synthetic photo and the truth about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refdepth.types.camera import PinholeCamera


@dataclass(frozen=True, kw_only=True, eq=False)
class SyntheticView:
    """One photo and the truth about it."""

    name: str
    """File name of the photo."""
    camera: PinholeCamera
    cam_from_world: NDArray[np.float64]
    """World to camera (4, 4)."""
    image: NDArray[np.float32]
    """RGB in [0, 1] (height, width, 3), on the 8-bit grid a file would hold."""
    depth: NDArray[np.float32]
    """Exact depth through each pixel's centre (height, width), metres."""
    surface: NDArray[np.int32]
    """Which surface each pixel's centre sees (height, width): a wall or a piece of furniture."""
