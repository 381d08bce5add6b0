"""Settings of the refinement, and its presets. Light: importing this loads no heavy package."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from refdepth.errors import ConfigurationError
from refdepth.matching.settings import MatchSettings, PropagationSettings
from refdepth.refine.mesh.settings import SurfaceSettings
from refdepth.refine.paper.settings import PaperSettings
from refdepth.settings import Quality, Settings, setting


class Method(StrEnum):
    """How a scaled prior is refined."""

    SEARCH = "search"
    """Search along rays, then few Gauss-Newton steps on the rendered mesh."""
    PAPER = "paper"
    """The published method alone: gradient descent on the rendered mesh."""


class SearchSettings(Settings):
    """Which depths are tried."""

    range: float = setting(0.2, "Largest change of log depth that is tried", gt=0)
    steps: int = setting(
        41, "How many depths are tried; an odd number includes no change", ge=3, expert=True
    )


class WideSettings(Settings):
    """How a prior is bent to the photos before the search, where it is far off."""

    from_error: float = setting(
        0.12,
        "A prior is bent where a quarter of the SfM points is further off in log depth than this",
        gt=0,
    )
    close_sources: int = setting(
        5,
        "How many of the closest other views are compared as well: near things are seen well over"
        " a short baseline",
        ge=0,
    )
    planes: int = setting(96, "How many depths are tried between the scene's bounds", ge=8)
    margin: float = setting(1.1, "How far they reach behind the SfM points, as a factor", ge=1)
    near_margin: float = setting(4.0, "How far they reach in front of them", ge=1)
    match: MatchSettings = setting(MatchSettings(best_sources=2), "How windows are compared")
    spread: PropagationSettings = setting(
        PropagationSettings(smoothness=5.0, outlier=0.1, rounds=4),
        "How the correction spreads from sure pixels",
    )
    search: SearchSettings = setting(
        SearchSettings(range=0.1, steps=21), "Which depths are tried around the bent prior"
    )


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


class CloserSettings(Settings):
    """How large photos are searched again, finer, around the depth found on the working grid."""

    max_pixels: int = setting(
        0,
        "Pixels of the finer grid, at most; at 0, and where it would be no finer than the working"
        " grid, nothing is searched again",
        unit="px",
        ge=0,
    )
    range: float = setting(0.16, "Largest change of log depth that is tried", gt=0)
    step: float = setting(
        0.0025, "Change from one depth that is tried to the next, around the middle", gt=0
    )
    steps: int = setting(49, "How many depths are tried; an odd number includes no change", ge=3)
    match: MatchSettings = setting(MatchSettings(), "How windows are compared")
    spread: PropagationSettings = setting(
        PropagationSettings(smoothness=2.0, rounds=1), "How corrections spread from sure pixels"
    )
    stay: float = setting(0.05, "Weight of no change against a sure pixel", gt=0)


class UpsamplerSettings(Settings):
    """A network that adds detail to the refined depth of large photos."""

    model: str = setting(
        "",
        "Prompt Depth Anything: a hub id or a local checkpoint folder; empty: no detail is added",
    )
    revision: str | None = setting(
        None, "Revision of a hub model: a commit, tag or branch; none means the model's default"
    )
    max_pixels: int = setting(
        1_500_000,
        "Pixels of the photo that the network sees, and of the grid on which photos are compared,"
        " at most; where that is no finer than the working grid nothing is added",
        unit="px",
        ge=1024,
    )
    match: MatchSettings = setting(MatchSettings(), "How windows are compared")
    spread: PropagationSettings = setting(
        PropagationSettings(smoothness=8.0, image_edge=0.0, rounds=3),
        "How the factor is smoothed that brings what the network says to the refined depth",
    )


class RefineSettings(Settings):
    """How a scaled prior is refined against its neighbours."""

    sources: int = setting(9, "How many neighbours a view is refined against", ge=1)
    iterations: int = setting(
        6, "Gradient steps on the rendered mesh; 0: none (`paper` has its own)", ge=0
    )
    working_pixels: int = setting(
        600_000, "Search runs on the photo reduced to at most so many pixels", unit="px", ge=1024
    )
    least_reduction: int = setting(
        2, "Photo pixels per pixel of the search's grid, at least", ge=1, expert=True
    )
    held_out: bool = setting(
        True, "One neighbour is left out and decides where the refinement is kept"
    )
    judging_points: float = setting(
        0.2,
        "Share of the SfM points that the refinement is not given: they judge its confidence",
        ge=0,
        le=0.5,
        expert=True,
    )
    edge_reach: float = setting(
        0.008,
        "How far from a smeared depth edge its two sides are looked for, as a share of the"
        " picture's longer side; 0: edges stay smeared",
        ge=0,
        le=0.05,
    )
    method: Method = setting(
        Method.SEARCH, "search, or paper: the published method alone", expert=True
    )
    match: MatchSettings = setting(MatchSettings(), "How windows are compared", expert=True)
    wide: WideSettings = setting(
        WideSettings(), "How a prior that is far off is bent to the photos first", expert=True
    )
    search: SearchSettings = setting(SearchSettings(), "Which depths are tried first")
    search_again: SearchSettings = setting(
        SearchSettings(range=0.06, steps=25),
        "Which depths are tried around the depth that views agree on",
        expert=True,
    )
    closer: CloserSettings = setting(
        CloserSettings(),
        "How large photos are searched again, finer, around the depth found",
        expert=True,
    )
    upsampler: UpsamplerSettings = setting(
        UpsamplerSettings(),
        "A network that adds detail to the refined depth of large photos",
        expert=True,
    )
    propagation: PropagationSettings = setting(
        PropagationSettings(),
        "How corrections spread from sure to unsure pixels; smoothness as on a grid 100 px a side",
        expert=True,
    )
    consistency: ConsistencySettings = setting(
        ConsistencySettings(),
        "How much neighbours' depth counts",
        expert=True,
    )
    surface: SurfaceSettings = setting(
        SurfaceSettings(), "Gradient steps on the rendered mesh", expert=True
    )
    paper: PaperSettings = setting(PaperSettings(), "The published method", expert=True)

    @classmethod
    def preset(cls, quality: Quality | str) -> Self:
        """The settings of one quality level.

        Raises `ConfigurationError` for an unknown one.
        """
        if quality not in list(Quality):
            raise ConfigurationError(
                "is no quality.", subject=repr(quality), action=f"Use one of {', '.join(Quality)}."
            )
        if quality == Quality.FAST:
            return cls(iterations=0, sources=7)
        if quality == Quality.HIGH:
            return cls(
                iterations=12,
                sources=12,
                search_again=SearchSettings(range=0.12, steps=49),
                consistency=ConsistencySettings(rounds=5),
                closer=CloserSettings(max_pixels=3_200_000),
            )
        if quality == Quality.PAPER:
            return cls(
                method=Method.PAPER, iterations=0, held_out=False, edge_reach=0, judging_points=0
            )
        return cls()

    def result_fields(self) -> dict[str, Any]:
        """See `Settings.result_fields`; without the groups that the chosen method does not read.
        Which network adds detail is not said: a name may come to stand for another one."""
        fields = super().result_fields()
        if self.method is Method.PAPER:
            unread = {"wide", "search", "search_again", "propagation", "surface", "iterations"}
            unread.add("closer")
        else:
            unread = {"paper"} if self.iterations else {"paper", "surface"}
            if not self.closer.max_pixels:
                unread.add("closer")
        if self.upsamples:
            fields["upsampler"] = {
                name: value
                for name, value in fields["upsampler"].items()
                if name not in ("model", "revision")
            }
        else:
            unread.add("upsampler")
        return {name: value for name, value in fields.items() if name not in unread}

    @property
    def upsamples(self) -> bool:
        """Whether a network adds detail to the refined depth."""
        return bool(self.upsampler.model) and self.method is not Method.PAPER

    @property
    def gradient_steps(self) -> int:
        """How many steps are taken on the rendered mesh: a renderer is needed for any."""
        return self.paper.iterations if self.method is Method.PAPER else self.iterations

    @property
    def needs_gradients(self) -> bool:
        """Whether these steps follow gradients that the renderer has to give."""
        return self.method is Method.PAPER and self.paper.iterations > 0

    @property
    def grid(self) -> dict[str, int]:
        """The limits of the working grid, as `WorkingView` takes them."""
        return {"max_pixels": self.working_pixels, "least_factor": self.least_reduction}

    @property
    def finer_grid(self) -> dict[str, int]:
        """The same of the grid of a closer look: the working grid where it is no finer."""
        return self._finer(self.closer.max_pixels)

    @property
    def upsampler_grid(self) -> dict[str, int]:
        """The same of the grid on which a network adds detail."""
        return self._finer(self.upsampler.max_pixels)

    def _finer(self, pixels: int) -> dict[str, int]:
        most = max(pixels, self.working_pixels)
        return {"max_pixels": most, "least_factor": self.least_reduction}
