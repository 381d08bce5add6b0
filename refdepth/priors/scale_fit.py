"""What a fit of a prior to SfM points is: a line, its bounds, and how well it fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from refdepth.priors.bend import Bend
from refdepth.types.prior import PriorKind

_FLAT = 0.01
"""Relative difference of depth between the prior's median and its 10 % or 90 % quantile, under
which a fit is flat."""


class ScaleFlag(StrEnum):
    """What is doubtful about a fit."""

    NO_POINTS = "no_points"
    """Nothing to fit to: depth is unknown unless the scene's fit was borrowed."""
    FEW_POINTS = "few_points"
    BADLY_SPREAD = "badly_spread"
    """The points lie in too small a part of the picture."""
    POOR_FIT = "poor_fit"
    OPPOSED = "opposed"
    """The prior grows where it should shrink: probably of another kind than said."""
    UNRELATED = "unrelated"
    """The prior says nothing of the points: constant, or of another photo."""
    BORROWED = "borrowed"
    """The scene's fit was used."""


TOO_FEW = {ScaleFlag.NO_POINTS, ScaleFlag.FEW_POINTS}
"""Flags of views without enough points for any fit."""
WEAK = {*TOO_FEW, ScaleFlag.BADLY_SPREAD}
"""Flags of views whose own points cannot carry a fit."""


@dataclass(frozen=True, kw_only=True)
class ScaleFit:
    """How one view's prior becomes depth, and how well it fits."""

    kind: PriorKind
    a: float
    """Slope of t = a x + b; 0 means that there is no fit."""
    b: float
    near: float
    """Nearest depth that is believed, SfM units."""
    far: float
    """Farthest depth that is believed, SfM units; what lies beyond is sky."""
    sky_from: float | None = None
    """Depth of the line, without `bend`, from which the prior says sky; None: it does not."""
    points: int = 0
    """SfM points used, and those that stand in for them (see `with_points_beside`)."""
    inliers: int = 0
    residual_quantiles: Mapping[str, float] = field(default_factory=dict)
    """Relative depth error of the points at some quantiles, `"0.5"` being the median."""
    coverage: float = 0.0
    """Share of the picture's 8 x 8 cells that hold an inlier."""
    prior_center: float = 0.0
    """Median of the prior over the picture."""
    prior_spread: float = 0.0
    """Half the distance between the prior's 10 % and 90 % quantiles over the picture."""
    bend: Bend | None = None
    """The slowly varying factor on the line's depth; None where there is none."""
    left_out_before: Mapping[str, float] = field(default_factory=dict)
    """Quantiles of |log depth error| of the line at points spread over the picture."""
    left_out_quantiles: Mapping[str, float] = field(default_factory=dict)
    """The same with `bend`, each point with its part of the picture left out of it: what to expect
    between the points. Without `bend` those of the line."""
    samples: Sequence[tuple[float, float, bool]] = ()
    """Some of the points as (prior value, depth, inlier), for a scatter plot."""
    flags: tuple[ScaleFlag, ...] = ()

    @property
    def weak(self) -> bool:
        """Whether the view's own points cannot carry a fit."""
        return bool(WEAK.intersection(self.flags))

    @property
    def too_few(self) -> bool:
        """Whether there are too few points for any fit."""
        return bool(TOO_FEW.intersection(self.flags))

    @property
    def flat(self) -> bool:
        """Whether it puts the whole picture at nearly one depth."""
        return self.a * self.prior_spread < _FLAT * (self.a * self.prior_center + self.b)

    @property
    def median_residual(self) -> float:
        """Median relative depth error of the points; NaN without points."""
        return self.residual_quantiles.get("0.5", float("nan"))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = asdict(self)
        values["kind"] = self.kind.value
        values["flags"] = [flag.value for flag in self.flags]
        values["samples"] = [list(sample) for sample in self.samples]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScaleFit:
        """The inverse of `to_dict`."""
        return cls(
            **{
                **values,
                "kind": PriorKind(values["kind"]),
                "bend": Bend.from_dict(values["bend"]) if values["bend"] else None,
                "flags": tuple(ScaleFlag(flag) for flag in values["flags"]),
                "samples": tuple((float(x), float(z), bool(i)) for x, z, i in values["samples"]),
            }
        )
