"""Photos with truth and a full run, and what people bring instead of photos alone."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth._pycolmap import pycolmap
from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.synthetic import SyntheticScene
from refdepth.types.camera import invert_pose

GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])
DISTORTION = (-0.12, 0.03, 0.002, -0.001)
"""k1, k2, p1, p2 of the lens that entries with distortion have."""

FIGURES: list[str] = []
"""What was measured, printed at the end of the run."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Photos of one scene and what a full run made of them."""

    name: str
    folder: Path
    """`photos/` and `out/`, and room for more."""
    truth: Path
    """NAME.npz a photo with `depth`, `K` and `cam_from_world`."""
    prior: tuple[str, ...]
    """Options that say where depth comes from."""
    options: tuple[str, ...]
    """Options of every run."""
    synthetic: SyntheticScene | None = None
    maps: Path = Path()
    """Maps NAME.npy of a network, `inverse_affine`; of photos that are not synthetic."""

    @property
    def photos(self) -> list[Path]:
        """The photos, by name."""
        return sorted((self.folder / "photos").iterdir())

    @property
    def out(self) -> Path:
        """The full run."""
        return self.folder / "out"

    @property
    def model(self) -> Path:
        """What SfM found in the full run, with lens distortion."""
        return self.out / "sfm" / "sparse"

    def reconstruct(
        self, out: Path, *options: str, photos: Path | None = None, prior: Sequence[str] = ()
    ) -> Path:
        """Runs the command with the case's settings; returns `out`."""
        source = self.folder / "photos" if photos is None else photos
        command = ["reconstruct", str(source), str(out), "--quiet", *self.options, *options]
        assert run([*command, *(prior or self.prior)]) == ExitCode.DONE
        return out

    def error(self, out: Path, view: str | None = None) -> dict[str, float]:
        """`abs_rel` and `median_rel` of the refined depth, one scale for the scene: the mean of
        the views, or of one `view`."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            command = ["evaluate", str(out), "--ground-truth", str(self.truth), "--no-icp"]
            assert run([*command, "--json"]) == ExitCode.DONE
        stage = json.loads(said.getvalue())["depth"]["stages"]["refined"]
        found = (stage["mean"] if view is None else stage["views"][view])["all"]
        return {key: float(found[key]) for key in ("abs_rel", "median_rel")}

    def say(self, what: str) -> None:
        """Notes a figure."""
        FIGURES.append(f"{self.name}: {what}")

    def true_cameras(self) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """(K, cam_from_world) by photo name."""
        cameras = {}
        for photo in self.photos:
            with np.load(self.truth / f"{photo.stem}.npz") as stored:
                cameras[photo.name] = (stored["K"], stored["cam_from_world"])
        return cameras


def in_words(error: dict[str, float]) -> str:
    """The error of a run, for people."""
    return f"AbsRel {error['abs_rel']:.4f}, median {100 * error['median_rel']:.2f} %"


def depth_hashes(out: Path) -> dict[str, str]:
    """Hash of every refined depth map."""
    results = Results(Workspace(out))
    return {
        name: hashlib.sha256(results.refined(name).depth.tobytes()).hexdigest()
        for name in results.views("refine")
    }


def summary(out: Path, stage: str) -> dict[str, Any]:
    """What a stage's manifest says in numbers."""
    manifest = Results(Workspace(out)).manifest(stage)
    assert manifest is not None
    return dict(manifest.summary)


def write_poses(path: Path, model: Path) -> None:
    """A `transforms.json` as nerfstudio's tools write it: poses and intrinsics, no points."""
    found = pycolmap.Reconstruction(str(model))
    frames = []
    for image in found.images.values():
        pose = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        camera = found.cameras[image.camera_id]
        assert camera.model_name == "SIMPLE_RADIAL"
        f, cx, cy, k = camera.params
        frames.append(
            {
                "file_path": f"images/{image.name}",
                "transform_matrix": (invert_pose(pose) @ GL_FROM_CV).tolist(),
                **{"fl_x": f, "fl_y": f, "cx": cx, "cy": cy, "k1": k},
                **{"w": camera.width, "h": camera.height},
            }
        )
    path.write_text(json.dumps({"camera_model": "OPENCV", "frames": frames}))


def write_true_poses(path: Path, case: Case) -> None:
    """A `transforms.json` of the true cameras, as instant-ngp has it."""
    frames = []
    for name, (K, cam_from_world) in case.true_cameras().items():
        intrinsics = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
        pose = invert_pose(cam_from_world) @ GL_FROM_CV
        frames.append(
            {"file_path": f"./photos/{Path(name).stem}", "transform_matrix": pose.tolist()}
            | intrinsics
        )
    path.write_text(json.dumps({"frames": frames}))


def write_maps(folder: Path, maps: Iterable[tuple[str, NDArray[np.float32]]]) -> None:
    """Maps as 16-bit PNG, with a scale and an offset that nobody tells."""
    folder.mkdir(parents=True)
    for stem, values in maps:
        low, high = float(values.min()), float(values.max())
        levels = 1000 + 60000 * (values.astype(np.float64) - low) / (high - low)
        Image.fromarray(levels.astype(np.uint16)).save(folder / f"{stem}.png")


def write_distorted(folder: Path, case: Case) -> None:
    """`images/` seen through a lens with distortion, and `model/`, its exact cameras as COLMAP
    text without points."""
    from scipy.ndimage import map_coordinates

    (folder / "images").mkdir(parents=True)
    (folder / "model").mkdir()
    model = pycolmap.Reconstruction()
    for image_id, (name, (K, cam_from_world)) in enumerate(case.true_cameras().items(), start=1):
        with Image.open(case.folder / "photos" / name) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        height, width = pixels.shape[:2]
        camera = pycolmap.Camera(
            camera_id=image_id,
            model="OPENCV",
            width=width,
            height=height,
            params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2], *DISTORTION],
        )
        model.add_camera_with_trivial_rig(camera)
        model.add_image_with_trivial_frame(
            pycolmap.Image(name=name, camera_id=image_id, image_id=image_id),
            pycolmap.Rigid3d(cam_from_world[:3]),
        )
        y, x = np.mgrid[:height, :width] + 0.5
        rays = camera.cam_from_img(np.stack([x.ravel(), y.ravel()], axis=1))
        u = (rays[:, 0] * K[0, 0] + K[0, 2] - 0.5).reshape(height, width)
        v = (rays[:, 1] * K[1, 1] + K[1, 2] - 0.5).reshape(height, width)
        seen = [
            map_coordinates(pixels[..., channel], [v, u], order=1, mode="nearest")
            for channel in range(3)
        ]
        Image.fromarray(np.stack(seen, axis=-1)).save(
            folder / "images" / name, quality=95, subsampling=0
        )
    model.write_text(str(folder / "model"))


def write_video(path: Path, scene: SyntheticScene, seconds: float, fps: int) -> None:
    """A film along the photos' path."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = scene.camera.width, scene.camera.height
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        for frame in scene.frames(round(seconds * fps)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
