"""Settings of the cross-view check, the cloud and the TSDF mesh."""

from __future__ import annotations

from refdepth.settings import Settings, setting

MAX_PIXELS = 3_200_000


class FusionSettings(Settings):
    """How depth maps become one cloud."""

    max_pixels: int = setting(
        MAX_PIXELS,
        "Larger photos are fused on a grid reduced below this by a whole factor: depth between the"
        " pixels of a finer one is interpolated only.",
        unit="px",
        ge=1024,
        expert=True,
    )

    neighbours: int = setting(
        10,
        "How many neighbouring views each depth map is checked against.",
        ge=1,
        le=32,
        expert=True,
    )
    max_reprojection_px: float = setting(
        1.5,
        "Largest reprojection error at which two views agree.",
        unit="px",
        gt=0,
        expert=True,
    )
    max_depth_ratio: float = setting(
        0.01,
        "Largest relative difference of depth at which two views agree.",
        gt=0,
        lt=1,
        expert=True,
    )
    rounds: int = setting(
        2,
        "How often the depth of each view is averaged with what its neighbours have by then.",
        ge=1,
        expert=True,
    )
    average_ratio: float = setting(
        0.005,
        "Estimates of a depth that differ by more count little in the average.",
        gt=0,
        lt=1,
        expert=True,
    )
    min_agreeing: int = setting(
        1, "How many neighbours must agree with a pixel (fewer where a view has fewer).", ge=0
    )
    min_belief: float = setting(
        0.5,
        "Least share of opinions in favour of a pixel, each weighed with its confidence.",
        ge=0,
        le=1,
        expert=True,
    )
    min_confidence: float = setting(0.0, "Pixels with a lower confidence are left out.", ge=0, le=1)
    max_slant_deg: float = setting(
        75.0,
        "Depth that changes faster than on a surface that leans away this much counts as steep: "
        "depth steps, and surfaces seen edge-on.",
        unit="deg",
        gt=0,
        lt=90,
        expert=True,
    )
    min_agreeing_steep: int = setting(
        3,
        "How many neighbours must agree with a pixel where depth is steep.",
        ge=0,
        expert=True,
    )
    min_segment: float = setting(
        2e-5,
        "Connected pieces of surface that cover a smaller share of the picture are left out.",
        ge=0,
        lt=1,
        expert=True,
    )
    voxel_px: float = setting(
        0.7,
        "Spacing of the cloud's points, in pixels at their distance (ground sampling distance).",
        unit="px",
        gt=0,
    )


class MeshSettings(Settings):
    """How the depth that views agree on becomes a mesh."""

    max_pixels: int = setting(MAX_PIXELS, "As fuse.max_pixels.", unit="px", ge=1024, expert=True)

    voxel_px: float = setting(
        2.0, "Voxel size of the TSDF, in pixels at the scene's median depth.", unit="px", gt=0
    )
    truncation_voxels: float = setting(
        8.0,
        "Truncation of the TSDF, in voxels: thicker bridges more noise.",
        unit="voxels",
        ge=2,
        expert=True,
    )
    min_weight: float = setting(
        2.0,
        "How many views must have measured a voxel for it to carry the mesh.",
        ge=1,
        expert=True,
    )
