"""A workspace of any number of views as a finished run leaves it, without the run: tiny pictures
and depth maps, hard links of a few files, under manifests that hold."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.io.ply import write_ply
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.engine import Engine, stage_names
from refdepth.pipeline.files import hash_json, write_arrays, write_json
from refdepth.pipeline.manifest import FileRecord, Manifest
from refdepth.pipeline.registry import STAGES
from refdepth.pipeline.workspace import Workspace
from refdepth.priors.scale_fit import ScaleFit, ScaleFlag
from refdepth.types.camera import PinholeCamera
from refdepth.types.cloud import PointCloud
from refdepth.types.prior import PriorKind
from refdepth.types.scene import Scene, SparsePoints, View

POINTS_A_VIEW = 12
DOUBTFUL_EVERY = 25
"""One view of so many is flagged, and little of it was accepted."""


def make_fake_workspace(
    root: Path, views: int, *, width: int = 32, height: int = 24, points: int = 1000
) -> Workspace:
    """A finished run of `views` photos in `root/photos` to `root/out`, its cloud of `points`."""
    return _Faker(root, views, width, height).make(points)


@dataclass
class _Faker:
    root: Path
    views: int
    width: int
    height: int
    templates: dict[str, Path] = field(default_factory=dict)
    known: dict[Path, FileRecord] = field(default_factory=dict)
    """Of the files that are linked: nothing is hashed twice."""

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def names(self) -> list[str]:
        return [f"IMG_{number:05d}.jpg" for number in range(self.views)]

    def make(self, points: int) -> Workspace:
        self.out.mkdir(parents=True)
        (self.root / "templates").mkdir()
        self._make_templates()
        self._link("photo.jpg", self.root / "photos", self.names)
        workspace = Workspace(self.out)
        request = RunRequest(
            inputs=RunInputs(images=str(self.root / "photos")),
            config=build_config(options={"depth.model": "sweep"}),
        )
        workspace.write_request(request)
        engine = Engine(workspace, request)
        fingerprints = {
            status.name: (status.fingerprint, status.item_fingerprint, dict(status.inputs))
            for status in engine.status()
        }
        workspace.save_hashes()
        for name in stage_names():
            (self.out / name).mkdir()
        self._prepare()
        self._sfm()
        for folder, arrays in {
            "depth": "prior.npz",
            "scale": "",
            "refine/first": "depth.npz",
            "refine/second": "depth.npz",
            "refine": "depth.npz",
        }.items():
            fingerprint = fingerprints[folder.partition("/")[0]][1]
            self._items(folder, arrays, fingerprint)
        self._link("depth.npz", self.out / "fuse", [f"{name}.npz" for name in self.names])
        write_ply(self.out / "fuse" / "cloud.ply", self._cloud(points))
        for stage in STAGES:
            fingerprint, _, inputs = fingerprints[stage.name]
            folder = self.out / stage.name
            Manifest(
                stage=stage.name,
                version=stage.version,
                fingerprint=fingerprint,
                settings=dict(stage.settings(request.config)),
                inputs=inputs,
                files={
                    path.relative_to(folder).as_posix(): self._record(path)
                    for path in sorted(self._artifacts(folder))
                },
                summary={"warnings": [], **self._summaries(points)[stage.name]},
                libraries={"python": "3", "refdepth": "0"},
                seconds=0.5 * self.views,
                peak_memory_mb=900.0,
            ).write(folder)
        return workspace

    def doubt(self, number: int) -> bool:
        """Whether a view is one that stands out."""
        return number % DOUBTFUL_EVERY == DOUBTFUL_EVERY - 1

    def _make_templates(self) -> None:
        rng = np.random.default_rng(0)
        small = rng.integers(0, 255, (5, 6, 3), dtype=np.uint8)
        size = (self.width, self.height)
        photo = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        photo.save(self.root / "templates" / "photo.jpg", quality=90)
        x = np.linspace(0, 1, self.width, dtype=np.float32)
        y = np.linspace(0, 1, self.height, dtype=np.float32)[:, None]
        depth = (2 + np.sin(7 * x) * np.cos(5 * y)).astype(np.float32)
        confidence = np.clip(0.4 + 0.6 * x * y, 0, 1).astype(np.float32)
        arrays: dict[str, dict[str, NDArray[Any]]] = {
            "prior.npz": {"values": 1 / depth},
            "depth.npz": {"depth": depth, "confidence": confidence},
        }
        for name, content in arrays.items():
            write_arrays(self.root / "templates" / name, content, compressed=True)

    def _link(self, template: str, folder: Path, names: Iterable[str]) -> None:
        """Puts the same file under many names."""
        folder.mkdir(parents=True, exist_ok=True)
        source = self.root / "templates" / template
        record = self._record(source)
        for name in names:
            os.link(source, folder / name)
            self.known[folder / name] = record

    def _record(self, path: Path) -> FileRecord:
        if path not in self.known:
            self.known[path] = FileRecord.of(path)
        return self.known[path]

    def _artifacts(self, folder: Path) -> list[Path]:
        """What a stage's manifest names."""
        if folder.name == "sfm":
            return [p for part in ("sparse", "undistorted") for p in _files(folder / part)]
        records = folder / "records"
        return [path for path in _files(folder) if records not in path.parents]

    def _prepare(self) -> None:
        folder = self.out / "prepare"
        self._link("photo.jpg", folder / "images", self.names)
        (folder / "masks").mkdir()
        row = {
            "width": self.width,
            "height": self.height,
            "stored_width": self.width,
            "stored_height": self.height,
        }
        photos = [{"name": name, "original": name, **row} for name in self.names]
        write_json(folder / "table.json", {"photos": photos, "skipped": []})

    def _sfm(self) -> None:
        from refdepth.io.colmap import to_reconstruction

        folder = self.out / "sfm"
        self._link("photo.jpg", folder / "undistorted" / "images", self.names)
        model = to_reconstruction(self.scene())
        for place in (folder / "sparse", folder / "undistorted" / "sparse"):
            place.mkdir(parents=True)
            model.write(str(place))
        (folder / "database.db").write_bytes(bytes(64 * self.views))

    def scene(self) -> Scene:
        """A flight to and fro over a plain, looking ahead and down."""
        rng = np.random.default_rng(1)
        row = max(1, round(np.sqrt(self.views)))
        across, along = np.arange(self.views) % row, np.arange(self.views) // row
        across = np.where(along % 2, row - 1 - across, across)
        centers = np.stack([0.6 * across, 0.6 * along, np.full(self.views, -2.0)], axis=1)
        look, down = np.array([0, -0.8, 0.6]), np.array([0, 0.6, 0.8])
        turn = np.array([[1, 0, 0], down, look])
        spots = (centers + 3 * look)[:, None] + rng.uniform(-1, 1, (self.views, POINTS_A_VIEW, 3))
        spots[..., 2] = 0.1 * np.sin(spots[..., 0])
        xyz = spots.reshape(-1, 3)
        focal = 0.9 * self.width
        camera = PinholeCamera(
            K=np.array([[focal, 0, self.width / 2], [0, focal, self.height / 2], [0, 0, 1]]),
            width=self.width,
            height=self.height,
        )
        views = []
        for number, name in enumerate(self.names):
            near = range(max(0, number - 1), min(self.views, number + 2))
            index = np.concatenate([np.arange(POINTS_A_VIEW) + POINTS_A_VIEW * n for n in near])
            pose = np.eye(4)
            pose[:3, :3], pose[:3, 3] = turn, -turn @ centers[number]
            seen = (xyz[index] - centers[number]) @ turn.T
            views.append(
                View(
                    name=name,
                    camera=camera,
                    cam_from_world=pose,
                    point_index=index,
                    point_xy=(seen[:, :2] / seen[:, 2:]) * focal
                    + [self.width / 2, self.height / 2],
                    image_path=self.out / "sfm" / "undistorted" / "images" / name,
                )
            )
        points = SparsePoints(
            xyz=xyz,
            rgb=rng.integers(60, 200, (len(xyz), 3)).astype(np.uint8),
            error_px=np.full(len(xyz), 0.5),
            track_length=np.full(len(xyz), 3),
        )
        return Scene(views, points)

    def _items(self, folder: str, template: str, fingerprint: str) -> None:
        place = self.out / folder
        file = None
        if template:
            self._link(template, place, [f"{name}.npz" for name in self.names])
            file = self._record(self.root / "templates" / template).model_dump()
        for number, name in enumerate(self.names):
            record = self._fit(number) if folder == "scale" else self._refined(number)
            content = {"fingerprint": fingerprint, "file": file, "record": record}
            sealed = {**content, "sha256_of_content": hash_json(content)}
            (place / f"{name}.json").write_text(json.dumps(sealed))

    def _fit(self, number: int) -> Mapping[str, Any]:
        rng = np.random.default_rng(number)
        x = rng.uniform(0.3, 1, 40)
        z = 1 / x * rng.normal(1, 0.03, 40)
        return ScaleFit(
            kind=PriorKind.INVERSE_AFFINE,
            a=1.0,
            b=0.0,
            near=0.1,
            far=100.0,
            points=int(rng.integers(100, 900)),
            inliers=90,
            coverage=float(rng.uniform(0.3, 0.9)),
            residual_quantiles={"0.5": float(rng.gamma(4, 0.01))},
            flags=(ScaleFlag.FEW_POINTS,) if self.doubt(number) else (),
            samples=[(round(a, 4), round(b, 4), True) for a, b in zip(x, z, strict=True)],
        ).to_dict()

    def _refined(self, number: int) -> Mapping[str, Any]:
        rng = np.random.default_rng(number)
        doubtful = self.doubt(number)
        before = float(rng.uniform(0.5, 0.7))
        return {
            "kind": "inverse_affine",
            "known_share": 1.0,
            "in_metres": False,
            "step": [1, 1],
            "sources": 9,
            "flags": ["few_sources"] if doubtful and number % 2 else [],
            "accepted_share": float(rng.uniform(0.05, 0.3) if doubtful else rng.beta(9, 2)),
            "held_out_before": before,
            "held_out_after": before + float(rng.uniform(0, 0.2)),
            "device": "cpu",
            "renderer": "cpu",
            "fine": {"levels": [{"scale": 2, "steps": 6, "losses": [0.5, 0.3, 0.2, 0.15]}]},
            "seconds": {"agreement": 0.4, "fine": 1.2},
        }

    def _cloud(self, points: int) -> PointCloud:
        rng = np.random.default_rng(2)
        xyz = self.scene().points.xyz
        return PointCloud(
            points=xyz[rng.integers(0, len(xyz), points)].astype(np.float32),
            normals=np.tile(np.float32([0, 0, -1]), (points, 1)),
            colors=rng.integers(60, 200, (points, 3)).astype(np.uint8),
            confidence=rng.uniform(0, 1, points).astype(np.float32),
        )

    def _summaries(self, points: int) -> dict[str, dict[str, Any]]:
        names, count = self.names, self.views
        shares = np.random.default_rng(3).beta(8, 2, count)
        return {
            "prepare": {"photos": count, "skipped": [], "masks": 0, "headline": f"{count} photos"},
            "sfm": {
                "registered": names,
                "failed": [],
                "points": POINTS_A_VIEW * count,
                "mean_reprojection_error_px": 0.5,
                "other_models": [],
                "headline": f"{count} of {count} photos placed",
            },
            "depth": {"requested": "sweep", "without_prior": [], "headline": f"{count} priors"},
            "scale": {"views": count, "median_residual": 0.04, "headline": f"{count} views fitted"},
            "refine": {
                "views": count,
                "accepted_share": 0.8,
                "headline": f"{count} views refined",
                "sources": {
                    name: [names[(number + k) % count] for k in range(1, 10)]
                    for number, name in enumerate(names)
                },
            },
            "fuse": {
                "points": points,
                "headline": f"{points:,} points from {count} views",
                "confirmed_share": dict(zip(names, shares.tolist(), strict=True)),
            },
        }


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
