"""How many metres a unit is and where up is, as OUT/scale.json has it: for status, report and
exports."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from refdepth.errors import InputError
from refdepth.metric.estimate import Source
from refdepth.metric.frame import MetricFrame, cameras_up, levelled
from refdepth.metric.geodesy import Origin
from refdepth.metric.gps import GpsAlignment
from refdepth.pipeline.files import hash_json, read_sealed
from refdepth.pipeline.manifest import Manifest
from refdepth.pipeline.results import Results

SCALE_NAME = "scale.json"


@dataclass(frozen=True, kw_only=True)
class MetricScale:
    """What OUT/scale.json says."""

    content: Mapping[str, Any]
    stale: bool
    """Whether it was measured on another reconstruction than the present one."""

    @property
    def metres_per_unit(self) -> float:
        """Metres in a unit."""
        return float(self.content["metres_per_unit"])

    @property
    def frame(self) -> MetricFrame:
        """The scene in metres."""
        matrix = np.array(self.content["metric_from_world"], np.float64)
        return MetricFrame(
            scale=self.metres_per_unit,
            rotation=matrix[:3, :3] / self.metres_per_unit,
            translation=matrix[:3, 3],
        )

    @property
    def up(self) -> str | None:
        """What z up comes from: `GPS` or `cameras`; None where up is not known."""
        return self.content["up"]

    @property
    def origin(self) -> Origin | None:
        """Where on Earth the frame's origin lies; x is then east and y north."""
        found = self.content["origin"]
        return None if found is None else Origin(**found)

    @property
    def headline(self) -> str:
        """The result in one line."""
        used = " and ".join(
            _counted(source)
            for source in self.content["sources"]
            if source["source"] in self.content["used"]
        )
        ups = {"GPS": "up by GPS", "cameras": "up guessed from the cameras", None: "up not known"}
        return (
            f"1 unit = {self.metres_per_unit:.5g} m ± {self.content['relative_error']:.2%}"
            f" by {used}; {ups[self.up]}"
        )

    @property
    def warnings(self) -> list[str]:
        """What to know about it, in words."""
        if self.stale:
            again = shlex.join(["refdepth", "scale-to", "OUT", *self.content["asked"]])
            return [
                f"scale.json was measured on another reconstruction and is not used; run {again}"
            ]
        left_out = [
            f"{source['source']}: {note}"
            for source in self.content["sources"]
            for note in source["notes"]
        ]
        return [*self.content["warnings"], *left_out]


def _counted(source: Mapping[str, Any]) -> str:
    """A source in words: `3 tags`, `2 of 3 tags`, `GPS`."""
    name, rows = str(source["source"]), source["measurements"]
    if name not in (Source.DISTANCES, Source.TAGS):
        return name
    used = sum(row["used"] for row in rows)
    if used < len(rows):
        return f"{used} of {len(rows)} {name}"
    return f"{used} {name if used > 1 else name.removesuffix('s')}"


def read_scale(results: Results) -> MetricScale | None:
    """The scale that was measured for a workspace, maybe stale; None where none was, or the file is
    damaged."""
    content = read_sealed(results.workspace.root / SCALE_NAME)
    if content is None or results.manifest("sfm") is None:
        return None
    return MetricScale(content=content, stale=content.get("made_from") != made_from(results))


def metres_per_unit(results: Results) -> float | None:
    """Metres in one SfM unit: as measured, else as metric depth has it; None where the scale is
    arbitrary."""
    scale = read_scale(results)
    if scale is not None and not scale.stale:
        return scale.metres_per_unit
    for stage in ("sfm", "scale"):
        manifest = results.manifest(stage)
        value = manifest.summary.get("metres_per_unit") if manifest else None
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None


def metric_frame(results: Results) -> MetricFrame:
    """The scene's place in metres. Raises `InputError` where nobody knows how long a unit is."""
    scale = read_scale(results)
    if scale is not None and not scale.stale:
        return scale.frame
    metres = metres_per_unit(results)
    if metres is None:
        raise InputError(
            "is not known in metres.",
            subject=results.workspace.root,
            action="Run `refdepth scale-to` first, or leave --metres out.",
        )
    return frame_of(results, metres, None)[0]


def up_of(results: Results) -> str | None:
    """What z up of `metric_frame` comes from; None where up is not known, and z is the scene's."""
    scale = read_scale(results)
    if scale is not None and not scale.stale:
        return scale.up
    return frame_of(results, 1.0, None)[1]


def world_of(results: Results) -> dict[str, Any]:
    """The axes of `metric_frame`, in words and numbers, for the index of an export."""
    scale = read_scale(results)
    origin = None if scale is None or scale.stale else scale.content["origin"]
    axes = {
        "GPS": "x east, y north, z up",
        "cameras": "z up, guessed from how the cameras were held",
        None: "the scene's own; up is not known",
    }
    matrix = metric_frame(results).matrix.tolist()
    return {"axes": axes[up_of(results)], "origin": origin, "world_from_scene": matrix}


def frame_of(
    results: Results, metres: float, alignment: GpsAlignment | None
) -> tuple[MetricFrame, str | None]:
    """The frame, and what its up comes from."""
    zero = np.zeros(3)
    if alignment is not None and alignment.rotation is not None:
        moved = metres * alignment.rotation @ alignment.center
        frame = MetricFrame(
            scale=metres, rotation=alignment.rotation, translation=alignment.center_enu - moved
        )
        return frame, "GPS"
    up = cameras_up(results.scene)
    if up is None:
        return MetricFrame(scale=metres, rotation=np.eye(3), translation=zero), None
    return MetricFrame(scale=metres, rotation=levelled(up), translation=zero), "cameras"


def made_from(results: Results) -> dict[str, str]:
    """What identifies the reconstruction: its fingerprint, and its files, as a model that is found
    again need not lie where it lay."""
    manifest = Manifest.read(results.workspace.stage_dir("sfm"))
    assert manifest is not None  # the scene has been read
    model = {n: f.sha256 for n, f in manifest.files.items() if n.startswith("undistorted/sparse/")}
    return {"sfm": manifest.fingerprint, "model": hash_json(model)}
