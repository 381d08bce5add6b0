"""Settings of the published method (arXiv 2410.03861). Light: neither torch nor numba."""

from __future__ import annotations

from enum import StrEnum

from refdepth.refine.mesh.settings import Appearance, MeshedSettings
from refdepth.settings import Settings, setting


class CoarseSettings(Settings):
    """A small network bends the scaled prior towards the SfM points (first stage)."""

    iterations: int = setting(400, "Adam steps; 0 leaves the scaled prior as it is", ge=0)
    learning_rate: float = setting(0.01, "Adam's first step size; it falls to a tenth", gt=0)
    shape_weight: float = setting(100.0, "Weight of keeping the prior's depth gradients", ge=0)
    huber: float = setting(0.05, "Relative depth error from which the loss grows linearly", gt=0)
    shape_samples: int = setting(2000, "Grid samples that carry the shape term", ge=16)
    min_points: int = setting(24, "With fewer SfM points the scaled prior stays", ge=8)
    held_out: float = setting(0.2, "Share of the SfM points that judge the result", gt=0, le=0.5)


class ExposureModel(StrEnum):
    """What the sources' brightness may differ by, where colours are compared."""

    NONE = "none"
    GAIN_BIAS = "gain_bias"
    """Gain and offset for each source and channel."""
    RESPONSE = "response"
    """Exposure in stops for each source, response exponent for each channel."""


class LossWeights(Settings):
    """Weights of the terms that Adam minimises; the published ones by default."""

    color: float = setting(1.0, "Mean squared difference of the compared pixels", ge=0)
    shape: float = setting(400.0, "Depth gradients as in the prior (Poisson)", ge=0)
    points: float = setting(0.1, "SfM points, Huber on relative depth", ge=0)
    points_huber: float = setting(0.5, "Relative error from which that grows linearly", gt=0)
    edges: float = setting(0.1, "Depth-edge map as in the prior", ge=0)
    shift: float = setting(0.1, "Vertices near a depth edge move onto it", ge=0)
    normals: float = setting(0.01, "Surface normals as given, where they are", ge=0)
    robust: float = setting(0.0, "Truncated L1 of the compared pixels", ge=0)
    gradient: float = setting(0.0, "L1 of the compared pixels' image gradients", ge=0)
    smoothness: float = setting(0.0, "Smoothness of the correction except at depth edges", ge=0)


class PaperSettings(MeshedSettings):
    """Adam on the meshed depth map: a vertex every 4 px, then halved by quadric decimation, four
    targets a step, colour differences, exposure and response model, lateral shift."""

    scales: tuple[int, ...] = setting((1,), "Picture reduction of each level, coarsest first")
    max_pixels: int = setting(
        1280 * 720,
        "Larger pictures (and the stride) are reduced below this first",
        unit="px",
        ge=4096,
    )
    appearance: Appearance = setting(Appearance.COLOR, "What is compared: local_contrast or color")
    iterations: int = setting(24_000, "Adam steps on the rendered mesh", ge=0)
    decimation: float = setting(0.5, "Share of triangles that quadric decimation keeps", gt=0, le=1)
    targets: int = setting(4, "Sources rendered in each step, drawn at random; 0: all", ge=0)
    learning_rate: float = setting(
        1e-3, "Adam's first step size in log depth; falls to a fifth", gt=0
    )
    lateral: bool = setting(True, "Vertices may also move sideways by a quarter stride")
    exposure: ExposureModel = setting(
        ExposureModel.RESPONSE, "What is fitted to each source's brightness"
    )
    edge_band_px: int = setting(
        2, "Pixels left out on either side of a depth edge", unit="px", ge=0
    )
    coarse: CoarseSettings = setting(
        CoarseSettings(), "Bending of the scaled prior towards the SfM points"
    )
    weights: LossWeights = setting(LossWeights(), "Weights of the terms")
