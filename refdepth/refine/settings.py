"""Settings of the refinement, and its presets. Light: importing this loads no heavy package."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from refdepth.refine.mesh.settings import CoarseSettings, FineSettings
from refdepth.settings import Settings, setting

Quality = Literal["fast", "balanced", "high", "paper"]


class MatchSettings(Settings):
    """How windows are compared and votes of neighbouring pixels combined."""

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


class SearchSettings(Settings):
    """Which depths are tried."""

    range: float = setting(0.2, "Largest change of log depth that is tried", gt=0)
    steps: int = setting(41, "How many depths are tried; an odd number includes no change", ge=3)


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


class ConsistencySettings(Settings):
    """How much neighbours' depth counts."""

    weight: float = setting(0.5, "Weight of a neighbour's depth against the view's own", ge=0)
    least_confidence: float = setting(
        0.05, "Least weight of any known depth, a view's own or a neighbour's", ge=0, le=1
    )
    limit: float = setting(
        0.25,
        "Neighbours' depth further than this in log depth shows another surface",
        gt=0,
    )
    unsure_limit: float = setting(
        6.0,
        "The same for unsure neighbours, where larger, in typical errors of the prior",
        ge=0,
    )
    vote_gain: float = setting(0.1, "Cost of leaving a sure neighbour's depth, in the search", ge=0)
    vote_tolerance: float = setting(
        0.02, "Log-depth distance at which that cost is reached in full", gt=0
    )
    sure_weight: float = setting(
        0.25, "Opinions of less weight may lie further off before they lose it", ge=0
    )
    rounds: int = setting(3, "Solves, each with new weights", ge=1)


class AcceptanceSettings(Settings):
    """When the scaled prior stays."""

    smoothness: float = setting(1000.0, "How far evidence is pooled over a surface", gt=0)
    whole_view: float = setting(
        0.01, "Weight of the view's typical evidence against that of a textured pixel", gt=0
    )
    geometry_weight: float = setting(
        0.3, "Weight of agreement with the left-out neighbour's depth against correlation", ge=0
    )
    tolerance: float = setting(0.02, "Log-depth distance that counts as half agreement", gt=0)
    clear_gain: float = setting(
        0.01, "Pooled gain from which the refinement is taken over in full", gt=0
    )


class RefineSettings(Settings):
    """How a scaled prior is refined against its neighbours."""

    sources: int = setting(9, "How many neighbours a view is refined against", ge=1)
    held_out: bool = setting(
        True, "One neighbour is left out and decides where the refinement is kept"
    )
    working_pixels: int = setting(
        600_000, "Search runs on the photo reduced to at most so many pixels", unit="px", ge=1024
    )
    least_reduction: int = setting(
        2, "Search never runs on a finer grid than this", unit="px", ge=1
    )
    coarse: CoarseSettings = setting(
        CoarseSettings(iterations=0), "Bending of the scaled prior towards the SfM points"
    )
    discrete: bool = setting(True, "Search and propagate; off: gradient steps alone")
    match: MatchSettings = setting(MatchSettings(), "How windows are compared")
    search: SearchSettings = setting(SearchSettings(), "Which depths are tried first")
    search_again: SearchSettings = setting(
        SearchSettings(range=0.06, steps=25),
        "Which depths are tried around the depth that views agree on",
    )
    propagation: PropagationSettings = setting(
        PropagationSettings(), "How corrections spread from sure to unsure pixels"
    )
    consistency: ConsistencySettings = setting(
        ConsistencySettings(), "How much neighbours' depth counts"
    )
    iterations: int = setting(6, "Gradient steps on the rendered mesh; 0: none", ge=0)
    fine: FineSettings = setting(FineSettings(), "Gradient refinement on the rendered mesh")
    edge_reach: float = setting(
        0.008,
        "How far from a smeared depth edge its two sides are looked for, as a share of the"
        " picture's longer side; 0: edges stay smeared",
        ge=0,
        le=0.05,
    )
    acceptance: AcceptanceSettings = setting(AcceptanceSettings(), "When the scaled prior stays")
    seed: int = setting(0, "Seed of all random choices", ge=0, lt=2**31)

    @classmethod
    def preset(cls, quality: Quality) -> Self:
        """The settings of one quality level; `paper` is the published method alone."""
        if quality == "fast":
            return cls(iterations=0, sources=7)
        if quality == "high":
            return cls(
                iterations=12,
                sources=12,
                search_again=SearchSettings(range=0.12, steps=49),
                consistency=ConsistencySettings(rounds=5),
            )
        if quality == "paper":
            fine = FineSettings.paper()
            return cls(
                discrete=False,
                held_out=False,
                edge_reach=0,
                coarse=CoarseSettings(),
                iterations=fine.iterations,
                fine=fine,
            )
        return cls()

    @model_validator(mode="after")
    def _one_number_of_steps(self) -> Self:
        if "iterations" in self.fine.model_fields_set and self.fine.iterations != self.iterations:
            raise ValueError("fine.iterations follows iterations: set refine.iterations instead")
        return self
