"""Readers of foreign files, as targets of the fuzzer, each with whole files to start from."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Target:
    """A reader, the name its file must have, and whole files to start from."""

    read: Callable[[Path], object]
    file: str
    seeds: Callable[[], list[bytes]]


def read_config(path: Path) -> None:
    from refdepth.pipeline.config import build_config

    build_config(config_file=path).refine.result_fields()


def read_assignment(path: Path) -> None:
    from refdepth.pipeline.config import build_config

    lines = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
    build_config(assignments=lines)


def read_transforms(path: Path) -> None:
    from refdepth.sfm.transforms import read_transforms

    for frame in read_transforms(path):
        model, params = frame.intrinsics.colmap(640, 480)
        assert model
        assert np.isfinite(params).all()
        assert np.isfinite(frame.cam_from_world).all()


def read_depth(path: Path) -> None:
    from refdepth.io.depth_files import read_depth_file

    depth = read_depth_file(path)
    assert depth.ndim == 2
    assert depth.dtype == np.float32


def read_request(path: Path) -> None:
    from refdepth.pipeline.workspace import Workspace

    Workspace(path.parent).request()


def read_manifest(path: Path) -> None:
    from refdepth.pipeline.files import read_json
    from refdepth.pipeline.manifest import Manifest

    found = Manifest.read(path.parent)
    if found is not None:
        found.damaged_files(path.parent)
    stored = read_json(path)
    if isinstance(stored, dict):  # as if its seal fitted
        from pydantic import ValidationError

        stored.pop("sha256_of_content", None)
        with suppress(ValidationError):
            Manifest.model_validate(stored).damaged_files(path.parent, thorough=True)


def read_record(path: Path) -> None:
    from refdepth.pipeline.items import ItemStore

    store = ItemStore(path.parent, "f" * 64)
    store.is_done("view")
    assert isinstance(store.record("view"), dict)


def read_arrays(path: Path) -> None:
    from refdepth.pipeline.items import ItemStore
    from refdepth.pipeline.refining import FileCheckpoint

    FileCheckpoint(path, "f" * 64).load()
    ItemStore(path.parent, "").arrays("view")


def read_table(path: Path) -> None:
    from refdepth.pipeline.stages.prepare import read_table
    from refdepth.pipeline.workspace import Workspace

    read_table(Workspace(path.parents[1]))


def read_hashes(path: Path) -> None:
    from refdepth.pipeline.workspace import Workspace

    photo = path.with_name("photo")
    photo.write_bytes(b"x")
    workspace = Workspace(path.parent)
    assert len(workspace.content_hash(photo)) > 0
    workspace.save_hashes()


def read_model_binary(path: Path) -> None:
    from refdepth.sfm.model_check import check_whole

    check_whole(path.parent)


def read_ply(path: Path) -> None:
    from refdepth.io.ply import read_ply_points

    assert read_ply_points(path).shape[1] == 3


def _json_seed(value: Any) -> bytes:
    return json.dumps(value).encode()


def _config_seeds() -> list[bytes]:
    return [
        b'quality = "fast"\n[refine]\niterations = 3\nsources = 4\n[refine.search]\nsteps = 5\n',
        b"[sfm]\nseed = 1\n[fuse]\nvoxel_px = 2.0\n[prepare]\nmax_size = 800\n",
    ]


def _assignment_seeds() -> list[bytes]:
    return [
        b"refine.iterations=3\ndepth.model=sweep\nfuse.voxel_px=1.5",
        b"refine.surface.scales=[4,2]",
    ]


def _transforms_seeds() -> list[bytes]:
    pose = np.eye(4).tolist()
    frames = [{"file_path": f"images/{n}.jpg", "transform_matrix": pose} for n in range(2)]
    lens = {"fl_x": 500.0, "fl_y": 500, "cx": 320, "cy": 240, "w": 640, "h": 480, "k1": 0.1}
    angle = {"camera_angle_x": 0.9, "camera_model": "OPENCV_FISHEYE"}
    return [_json_seed({**lens, "frames": frames}), _json_seed({**angle, "frames": frames})]


def _npy_seeds() -> list[bytes]:
    file = io.BytesIO()
    np.save(file, np.ones((4, 5), np.float32))
    return [file.getvalue()]


def _npz_seeds() -> list[bytes]:
    seeds = []
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, depth=np.ones((4, 5), np.float32), confidence=np.ones((4, 5), np.float32))
        seeds.append(file.getvalue())
    return seeds


def _picture_seeds(kind: str) -> list[bytes]:
    seeds = []
    arrays = [np.arange(20, dtype=np.uint16).reshape(4, 5), np.ones((4, 5), np.uint8)]
    if kind == "TIFF":
        arrays.append(np.ones((4, 5), np.float32))  # type: ignore[arg-type]
    for array in arrays:
        file = io.BytesIO()
        Image.fromarray(array).save(file, format=kind)
        seeds.append(file.getvalue())
    return seeds


def _request_seeds() -> list[bytes]:
    from refdepth.pipeline.config import RunInputs, RunRequest

    return [RunRequest(inputs=RunInputs(images="/photos")).model_dump_json().encode()]


def _manifest_seeds() -> list[bytes]:
    record = {"size": 3, "mtime_ns": 5, "sha256": "0" * 64}
    shared: dict[str, Any] = {"settings": {}, "inputs": {}, "summary": {}, "libraries": {}}
    manifest = {"stage": "depth", "version": 1, "fingerprint": "f" * 64, "files": {"a": record}}
    return [_json_seed({**manifest, **shared, "seconds": 1.0, "peak_memory_mb": 2.0})]


def _record_seeds() -> list[bytes]:
    from refdepth.pipeline.files import hash_json

    record = {"size": 3, "mtime_ns": 5, "sha256": "0" * 64}
    item = {"fingerprint": "f" * 64, "file": record, "record": {"a": [1.5]}}
    return [_json_seed(item), _json_seed({**item, "sha256_of_content": hash_json(item)})]


def _table_seeds() -> list[bytes]:
    row = {"name": "a.png", "original": "a.jpg", "width": 4, "height": 5, "stored_width": 4}
    more = {"stored_height": 5, "orientation": 1, "mask": None, "warnings": []}
    return [_json_seed({"photos": [{**row, **more}], "skipped": []})]


def _hashes_seeds() -> list[bytes]:
    return [_json_seed({"/photos/a.jpg": [3, 5, "0" * 64]})]


def _images_bin_seeds() -> list[bytes]:
    image = struct.pack("<I7dI", 1, 1, 0, 0, 0, 0, 0, 0, 1) + b"a.jpg\0"
    points = struct.pack("<Q", 1) + struct.pack("<2dQ", 1.0, 2.0, 7)
    return [struct.pack("<Q", 1) + image + points]


def _ply_seeds() -> list[bytes]:
    names = "".join(f"property float {name}\n" for name in "xyz")
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex 2\n{names}end_header\n"
    text = head.replace("binary_little_endian", "ascii") + "0 0 0\n1 1 1\n"
    return [head.encode() + bytes(24), text.encode()]


TARGETS: dict[str, Target] = {
    "config": Target(read_config, "scene.toml", _config_seeds),
    "assignment": Target(read_assignment, "lines.txt", _assignment_seeds),
    "transforms": Target(read_transforms, "transforms.json", _transforms_seeds),
    "depth_npy": Target(read_depth, "a.npy", _npy_seeds),
    "depth_npz": Target(read_depth, "a.npz", _npz_seeds),
    "depth_png": Target(read_depth, "a.png", lambda: _picture_seeds("PNG")),
    "depth_tif": Target(read_depth, "a.tif", lambda: _picture_seeds("TIFF")),
    "request": Target(read_request, "refdepth.json", _request_seeds),
    "manifest": Target(read_manifest, "manifest.json", _manifest_seeds),
    "record": Target(read_record, "view.json", _record_seeds),
    "arrays": Target(read_arrays, "view.npz", _npz_seeds),
    "table": Target(read_table, "prepare/table.json", _table_seeds),
    "hashes": Target(read_hashes, ".hashes.json", _hashes_seeds),
    "model": Target(read_model_binary, "images.bin", _images_bin_seeds),
    "ply": Target(read_ply, "cloud.ply", _ply_seeds),
}
