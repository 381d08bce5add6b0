"""Models that share photos made into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refdepth._pycolmap import pycolmap
from refdepth.sfm.adjustment import adjust

_LEAST_SHARED = 3
"""Photos or panoramas that two models must share; fewer do not fix a similarity against one bad
pose."""
_AGREEING_SHARE = 0.3
"""Share of a shared photo's points that must project to where they are seen."""
_MOST_ERROR_PX = 8.0


def join_models(models: Mapping[int, Any], *, threads: int) -> tuple[dict[int, Any], set[int]]:
    """`models` (`pycolmap.Reconstruction`s of one database, by index) with those joined that share
    at least three photos and agree on them, and the indices of the joined ones.

    The larger model keeps its place and its cameras; the other is moved onto it (a similarity from
    the points of shared photos), gives it the photos and points that are new, and is dropped. What
    was joined is adjusted together.
    """
    left = sorted(models, key=lambda index: (-models[index].num_reg_images(), index))
    kept: list[int] = []
    changed: set[int] = set()
    while left:
        index, *left = left
        kept.append(index)
        others = left
        joined = True
        while joined:  # what has joined may tie in a third
            joined = False
            for other in others:
                if _join(models[other], models[index]):
                    others = [one for one in others if one != other]
                    joined = True
                    changed.add(index)
        left = others
        if index in changed:
            _adjust(models[index], threads)
    return {index: models[index] for index in sorted(kept)}, changed


def _adjust(model: Any, threads: int) -> None:
    """What `pycolmap.bundle_adjustment` does, but for panoramas: see `adjust`."""
    pycolmap.ObservationManager(model).filter_observations_with_negative_depth()
    adjust(model, model.reg_image_ids(), threads=threads)
    model.update_point_3d_errors()


def _join(source: Any, target: Any) -> bool:
    """Adds what is new in `source` to `target`; whether they share enough and agree."""
    shared = {i.image_id for i in source.images.values() if i.has_pose}
    shared &= {i.image_id for i in target.images.values() if i.has_pose}
    places = {target.image(image_id).frame_id for image_id in shared}  # a panorama is one
    if len(places) < _LEAST_SHARED:
        return False
    target_from_source = pycolmap.align_reconstructions_via_reprojections(
        source, target, _AGREEING_SHARE, _MOST_ERROR_PX
    )
    if target_from_source is None:
        return False
    source.transform(target_from_source)
    for frame_id in source.reg_frame_ids():
        if frame_id not in places:
            _add_frame(source, target, source.frame(frame_id))
    for point in source.points3D.values():
        _add_point(target, point)
    return True


def _add_frame(source: Any, target: Any, frame: Any) -> None:
    """Adds a photo, or all faces of a panorama."""
    if target.exists_frame(frame.frame_id):
        target.frame(frame.frame_id).rig_from_world = frame.rig_from_world
        target.register_frame(frame.frame_id)
        return
    images = [source.image(image_id) for image_id in sorted(frame.image_ids())]
    for sensor in frame.rig.sensor_ids():
        if not target.exists_camera(sensor.id):
            target.add_camera(pycolmap.Camera(source.camera(sensor.id).todict()))
    if not target.exists_rig(frame.rig_id):
        target.add_rig(pycolmap.Rig(frame.rig.todict()))
    fresh = pycolmap.Frame(
        frame_id=frame.frame_id, rig_id=frame.rig_id, rig_from_world=frame.rig_from_world
    )
    for image in images:
        fresh.add_data_id(image.data_id)
    target.add_frame(fresh)
    for image in images:
        target.add_image(
            pycolmap.Image(
                name=image.name,
                camera_id=image.camera_id,
                image_id=image.image_id,
                frame_id=frame.frame_id,
                keypoints=[point.xy for point in image.points2D],
            )
        )
    target.register_frame(frame.frame_id)


def _add_point(target: Any, point: Any) -> None:
    """Adds a point's observations in `target`: to the point that one of them belongs to, else as a
    new one."""
    known: int | None = None
    free = []
    for element in point.track.elements:
        seen = target.image(element.image_id).points2D[element.point2D_idx]
        if not seen.has_point3D():
            free.append(element)
        elif known is None:
            known = seen.point3D_id
    if known is not None:
        for element in free:
            target.add_observation(known, element)
    elif len(free) > 1:
        track = pycolmap.Track()
        for element in free:
            track.add_element(element)
        target.add_point3D(point.xyz, track, point.color)
