"""Models that share photos made into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refdepth._pycolmap import pycolmap

_LEAST_SHARED = 3
"""Photos that two models must share; fewer do not fix a similarity against one bad pose."""
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


def _join(source: Any, target: Any) -> bool:
    """Adds what is new in `source` to `target`; whether they share enough and agree."""
    shared = {i.image_id for i in source.images.values() if i.has_pose}
    shared &= {i.image_id for i in target.images.values() if i.has_pose}
    if len(shared) < _LEAST_SHARED:
        return False
    target_from_source = pycolmap.align_reconstructions_via_reprojections(
        source, target, _AGREEING_SHARE, _MOST_ERROR_PX
    )
    if target_from_source is None:
        return False
    source.transform(target_from_source)
    for image in source.images.values():
        if image.has_pose and image.image_id not in shared:
            _add_photo(source, target, image)
    for point in source.points3D.values():
        _add_point(target, point)
    return True


def _add_photo(source: Any, target: Any, image: Any) -> None:
    if target.exists_image(image.image_id):
        frame = target.frame(target.image(image.image_id).frame_id)
        frame.rig_from_world = image.cam_from_world()
        target.register_frame(frame.frame_id)
        return
    if not target.exists_camera(image.camera_id):
        target.add_camera_with_trivial_rig(pycolmap.Camera(image.camera.todict()))
    fresh = pycolmap.Image(
        name=image.name,
        camera_id=image.camera_id,
        image_id=image.image_id,
        keypoints=[point.xy for point in image.points2D],
    )
    target.add_image_with_trivial_frame(fresh, image.cam_from_world())


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


def _adjust(model: Any, threads: int) -> None:
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.ceres.use_gpu = False
    options.ceres.solver_options.num_threads = threads
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
