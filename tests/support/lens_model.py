"""Made-up COLMAP models of simple lenses."""

from __future__ import annotations

from typing import Any

from refdepth._pycolmap import pycolmap

LENS = 600.0, 320.0, 240.0, 0.01
"""Focal length, principal point and distortion of every camera."""


def lens_model(cameras: int, photos: int) -> Any:
    """An exact model of 250 points: so many cameras, each with so many photos of 640x480."""
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs = cameras
    options.num_cameras_per_rig = 1
    options.num_frames_per_rig = photos
    options.num_points3D = 250
    options.camera_model_id = pycolmap.CameraModelId.SIMPLE_RADIAL
    options.camera_width, options.camera_height = 640, 480
    options.camera_params = list(LENS)
    pycolmap.set_random_seed(0)
    return pycolmap.synthesize_dataset(options)
