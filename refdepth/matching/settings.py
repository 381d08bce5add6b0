"""Settings of the matching. Light: importing this loads no heavy package."""

from __future__ import annotations

from refdepth.settings import Settings, setting


class MatchSettings(Settings):
    """How windows are compared (ZNCC) and votes of neighbouring pixels combined (SGM)."""

    window_px: int = setting(5, "Side of the compared windows on the working grid", unit="px", ge=3)
    support_gray: float = setting(
        0.1,
        "Grey-level difference at which a window pixel loses weight; 0: all weigh the same",
        ge=0,
    )
    best_sources: int = setting(3, "How many of the best matching sources count at a pixel", ge=1)
    small_penalty: float = setting(0.05, "Penalty of a change by one step between pixels", gt=0)
    large_penalty: float = setting(0.6, "Penalty of any larger change between pixels", gt=0)
    image_edge: float = setting(
        12.0, "How fast an image edge frees neighbours from each other", ge=0
    )
    depth_edge: float = setting(
        12.0, "How fast a depth edge frees neighbours from each other", ge=0
    )
    prior_penalty: float = setting(
        0.02, "Cost of the outermost hypothesis against the middle", ge=0
    )


class PropagationSettings(Settings):
    """How corrections spread from sure to unsure pixels."""

    smoothness: float = setting(8.0, "Weight of a smooth correction against sure pixels", gt=0)
    image_edge: float = setting(
        6.0, "How fast an image edge frees neighbours from each other", ge=0
    )
    depth_edge: float = setting(
        40.0, "How fast a depth edge frees neighbours from each other", ge=0
    )
    outlier: float = setting(
        0.03, "Log-depth distance from the solution at which an opinion loses half its weight", gt=0
    )
    sparse_weight: float = setting(3.0, "Weight of an SfM point against a sure pixel", ge=0)
    rounds: int = setting(2, "Solves, each with new weights", ge=1)
