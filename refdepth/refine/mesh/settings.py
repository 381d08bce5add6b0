"""Settings of the gradient steps on the rendered mesh. Light: neither torch nor numba."""

from __future__ import annotations

from enum import StrEnum

from pydantic import field_validator

from refdepth.settings import Settings, setting


class Appearance(StrEnum):
    """What is compared between the rendered and the real picture."""

    LOCAL_CONTRAST = "local_contrast"
    """Luma, freed of local mean and contrast: no exposure model needed."""
    COLOR = "color"
    """RGB as photographed."""


class MeshedSettings(Settings):
    """How a depth map becomes a mesh, and photos the pictures it is compared with."""

    scales: tuple[int, ...] = setting((2,), "Picture reduction of each level, coarsest first")
    stride: int = setting(4, "Pixels between vertices", unit="px", ge=1)
    max_pixels: int = setting(
        600_000, "Larger pictures (and the stride) are reduced below this first", unit="px", ge=4096
    )
    cut_ratio: float = setting(1.1, "Depth ratio within a triangle above which it is cut", gt=1)
    appearance: Appearance = setting(
        Appearance.LOCAL_CONTRAST, "What is compared: local_contrast or color"
    )
    window_px: int = setting(9, "Window of the local contrast", unit="px", ge=3)
    depth_edge: float = setting(20.0, "How fast depth edges free neighbours from each other", ge=0)

    @field_validator("scales")
    @classmethod
    def _scales_positive(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if not scales or min(scales) < 1:
            raise ValueError("give at least one scale, all at least 1")
        return scales


class SurfaceSettings(MeshedSettings):
    """Gauss-Newton steps on the rendered mesh."""

    smoothness: float = setting(
        8.0, "Stiffness of the correction, in pixels of parallax between vertices", gt=0
    )
    point_weight: float = setting(1.0, "Pull of the SfM points", ge=0)
