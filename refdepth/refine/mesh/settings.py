"""Settings of the coarse and the fine stage. Light: this loads neither torch nor numba."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, field_validator

from refdepth.settings import Settings, setting


class CoarseSettings(Settings):
    """A small network bends the scaled prior towards the SfM points (paper, first stage)."""

    iterations: int = setting(400, "Adam steps; 0 leaves the scaled prior as it is", ge=0)
    learning_rate: float = setting(0.01, "Adam's first step size; it falls to a tenth", gt=0)
    shape_weight: float = setting(100.0, "Weight of keeping the prior's depth gradients", ge=0)
    huber: float = setting(0.05, "Relative depth error from which the loss grows linearly", gt=0)
    shape_samples: int = setting(2000, "Grid samples that carry the shape term", ge=16)
    min_points: int = setting(24, "With fewer SfM points the scaled prior stays", ge=8)
    held_out: float = setting(0.2, "Share of the SfM points that judge the result", gt=0, le=0.5)


class Solver(StrEnum):
    """How the fine stage moves the surface."""

    GAUSS_NEWTON = "gauss_newton"
    """Few second-order steps on a photometric residual that ignores brightness."""
    ADAM = "adam"
    """Many first-order steps on any of the paper's terms."""


class Appearance(StrEnum):
    """What is compared between the rendered and the real picture."""

    LOCAL_CONTRAST = "local_contrast"
    """Luminance, freed of local mean and contrast: no exposure model needed."""
    COLOR = "color"
    """RGB as photographed."""


class ExposureModel(StrEnum):
    """What the sources' brightness may differ by, where colours are compared."""

    NONE = "none"
    GAIN_BIAS = "gain_bias"
    """Gain and offset for each source and channel."""
    RESPONSE = "response"
    """Exposure in stops for each source, response exponent for each channel (paper)."""


class LossWeights(Settings):
    """Weights of the terms that the `adam` solver minimises."""

    robust: float = setting(1.0, "Truncated L1 of the compared pixels", ge=0)
    gradient: float = setting(2.0, "L1 of the compared pixels' image gradients", ge=0)
    smoothness: float = setting(50.0, "Smoothness of the correction except at depth edges", ge=0)
    points: float = setting(1.0, "SfM points, Huber on relative depth", ge=0)
    points_huber: float = setting(0.05, "Relative error from which that grows linearly", gt=0)
    color: float = setting(0.0, "Mean squared difference of the compared pixels", ge=0)
    shape: float = setting(0.0, "Depth gradients as in the prior (Poisson)", ge=0)
    edges: float = setting(0.0, "Depth-edge map as in the prior", ge=0)
    shift: float = setting(0.0, "Vertices near a depth edge move onto it", ge=0)
    normals: float = setting(0.0, "Surface normals as given, where they are", ge=0)

    @classmethod
    def paper(cls) -> LossWeights:
        """The paper's terms and weights."""
        return cls(
            robust=0,
            gradient=0,
            smoothness=0,
            points=0.1,
            points_huber=0.5,
            color=1,
            shape=400,
            edges=0.1,
            shift=0.1,
            normals=0.01,
        )


class FineSettings(Settings):
    """The meshed depth map is rendered into its neighbours and moved until it fits."""

    solver: Solver = setting(Solver.GAUSS_NEWTON, "gauss_newton: few second-order steps; adam")
    iterations: int = setting(
        3,
        "Steps in all, spread over the pyramid; 0 skips the stage. Within a run,"
        " refine.iterations decides",
        ge=0,
        exclude=True,
    )
    scales: tuple[int, ...] = setting((2,), "Picture reduction of each level, coarsest first")
    stride: int = setting(4, "Pixels between vertices", unit="px", ge=1)
    decimation: float = setting(
        1.0, "Share of triangles that quadric decimation keeps (adam only)", gt=0, le=1
    )
    max_pixels: int = setting(
        600_000, "Larger pictures (and the stride) are reduced below this first", unit="px", ge=4096
    )
    cut_ratio: float = setting(1.1, "Depth ratio within a triangle above which it is cut", gt=1)
    appearance: Appearance = setting(
        Appearance.LOCAL_CONTRAST, "What is compared: local_contrast or color"
    )
    window_px: int = setting(9, "Window of the local contrast", unit="px", ge=3)
    targets: int = setting(0, "Sources rendered in each step, drawn at random; 0: all", ge=0)
    smoothness: float = setting(
        20.0,
        "Stiffness of the correction, in pixels of parallax between vertices (gauss_newton)",
        gt=0,
    )
    point_weight: float = setting(1.0, "Pull of the SfM points (gauss_newton)", ge=0)
    depth_edge: float = setting(20.0, "How fast depth edges free neighbours from each other", ge=0)
    learning_rate: float = setting(
        5e-3, "Adam's first step size in log depth; falls to a fifth", gt=0
    )
    lateral: bool = setting(False, "Vertices may also move sideways by a quarter stride (adam)")
    exposure: ExposureModel = setting(
        ExposureModel.GAIN_BIAS, "What is fitted to each source's brightness (adam)"
    )
    edge_band_px: int = setting(
        0, "Pixels left out on either side of a depth edge (adam)", unit="px", ge=0
    )
    weights: LossWeights = Field(default=LossWeights(), description="Weights of the terms (adam)")
    checkpoint_every: int = setting(200, "Steps between saved states", ge=1, affects_result=False)

    @field_validator("scales")
    @classmethod
    def _scales_positive(cls, scales: tuple[int, ...]) -> tuple[int, ...]:
        if not scales or min(scales) < 1:
            raise ValueError("give at least one scale, all at least 1")
        return scales

    @classmethod
    def paper(cls, iterations: int = 24_000) -> FineSettings:
        """The paper's fine stage: vertex every 4 px then halved by quadric decimation, four targets
        a step, colour differences, exposure and response model, lateral shift."""
        return cls(
            solver=Solver.ADAM,
            iterations=iterations,
            scales=(1,),
            stride=4,
            decimation=0.5,
            max_pixels=1280 * 720,
            appearance=Appearance.COLOR,
            targets=4,
            learning_rate=1e-3,
            lateral=True,
            exposure=ExposureModel.RESPONSE,
            edge_band_px=2,
            weights=LossWeights.paper(),
        )
