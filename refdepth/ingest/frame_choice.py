"""Which frames of a video are taken: sharp ones, evenly spaced by image motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refdepth.ingest.settings import PrepareSettings

_WINDOW = 0.5
"""Half of the window, in spacings, in which the sharpest frame is taken."""
_FEWEST_FRAMES = 20
_FRAMES_TO_CHOOSE_FROM = 4
"""Spacings are not made so small that a window holds fewer frames, on average."""
_STILL = 0.25
"""Share of a spacing under which nothing is said to move."""


@dataclass(frozen=True, kw_only=True)
class FrameMeasure:
    """What was measured on one frame."""

    index: int
    """Number of the frame in the video, from 0."""
    time_s: float
    """Time of the frame, seconds."""
    sharpness: float
    """Mean squared Laplacian of the small grey picture."""
    motion: float
    """Image motion since the first frame, as a share of the picture's diagonal."""


def select_frames(
    measures: Sequence[FrameMeasure], settings: PrepareSettings
) -> list[FrameMeasure]:
    """The sharpest frame near each multiple of the spacing in image motion; the spacing gives way
    to the limits on number and time."""
    if not measures:
        return []
    total = measures[-1].motion - measures[0].motion
    most = min(settings.max_frames - 1, len(measures) // _FRAMES_TO_CHOOSE_FROM)
    spacing = min(settings.frame_spacing, total / _FEWEST_FRAMES)
    spacing = max(spacing, total / max(1, most))
    if spacing <= 0:
        return [max(measures, key=lambda measure: measure.sharpness)]
    chosen: list[FrameMeasure] = []
    for slot in range(round(total / spacing) + 1):
        center = measures[0].motion + slot * spacing
        earliest = chosen[-1].time_s + settings.min_frame_interval_s if chosen else -np.inf
        near = [
            measure
            for measure in measures
            if abs(measure.motion - center) <= _WINDOW * spacing
            and measure.time_s >= earliest
            and (not chosen or measure.index > chosen[-1].index)
        ]
        if near:
            chosen.append(max(near, key=lambda measure: measure.sharpness))
    filled = _fill_gaps(chosen, measures, spacing, settings)
    return filled if len(filled) <= settings.max_frames else chosen


def _fill_gaps(
    chosen: Sequence[FrameMeasure],
    measures: Sequence[FrameMeasure],
    spacing: float,
    settings: PrepareSettings,
) -> list[FrameMeasure]:
    """Adds the sharpest frame in the middle of gaps that are long in time and not still."""
    filled = list(chosen[:1])
    for following in chosen[1:]:
        while following.time_s - filled[-1].time_s > settings.max_frame_interval_s:
            low = filled[-1].time_s + settings.max_frame_interval_s / 2
            high = filled[-1].time_s + settings.max_frame_interval_s
            between = [
                measure
                for measure in measures
                if low <= measure.time_s <= min(high, following.time_s)
                and measure.motion - filled[-1].motion >= _STILL * spacing
                and following.motion - measure.motion >= _STILL * spacing
            ]
            if not between:
                break
            filled.append(max(between, key=lambda measure: measure.sharpness))
        filled.append(following)
    return filled
