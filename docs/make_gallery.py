"""Pictures of a finished run, and a page that shows them.

    python docs/make_gallery.py OUT PAGE.md [--view NAME]

OUT is an output folder of `refdepth`; the pictures go into a folder beside PAGE.md, of its name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from refdepth.errors import InputError
from refdepth.fusion import fuse_mesh
from refdepth.fusion.tsdf import without_fragments
from refdepth.io.colors import depth_picture, depth_range, value_picture
from refdepth.io.images import load_rgb
from refdepth.pipeline.report.overview import map_axes
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace
from refdepth.render import select_renderer
from refdepth.types.camera import PinholeCamera, invert_pose, pose_matrix, transform
from refdepth.types.cloud import PointCloud
from refdepth.types.mesh import TriangleMesh
from refdepth.types.scene import Scene, View

WIDTH_PX = 420
"""Of each picture."""
_QUALITY = 82
_FINER = 2
"""Clouds and meshes are drawn so much larger, and reduced."""
_DISC = np.array([(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
"""Pixels of a point there."""
_MOST_POINTS = 1_000_000
_TURNS_DEG = (-32.0, 32.0)
_RAISED_DEG, _BACK = 9.0, 1.25
_WHITE, _DARK = 255, 40

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]

PAGE = """# Gallery

{count} photos; the one shown is `{name}`. Made by `make gallery`.

{pictures}

A splat is not shown: trainers are other people's programs. One trained from the `gsplat` export
starts from the cloud above and is held to the depth above at up to 3,000 pixels of each view;
docs/recipes.md has the commands.
"""


def main() -> None:
    """Reads the arguments, draws the pictures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="output folder of a finished run")
    parser.add_argument("page", type=Path, metavar="PAGE.md")
    parser.add_argument("--view", help="the photo shown; by default the one in the middle")
    arguments = parser.parse_args()
    write_page(Results(Workspace(arguments.out)), arguments.page, arguments.view)


def write_page(results: Results, page: Path, name: str | None = None) -> None:
    """Writes `page` and its pictures."""
    refined = results.views("refine")
    wanted = refined if name is None else results.names.select(name)
    found = [each for each in wanted if each in refined]
    if not found:
        raise InputError(
            "has no refined depth." if name is None else f"has no refined depth of {name}.",
            subject=results.workspace.root,
            action="Run `refdepth reconstruct` first, or name another view.",
        )
    name = found[len(found) // 2]
    folder = page.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    shown = []
    for stem, line, picture in draw(results, name):
        image = Image.fromarray(picture)
        size = (WIDTH_PX, round(WIDTH_PX * image.height / image.width))
        image.resize(size, Image.Resampling.LANCZOS).save(
            folder / f"{stem}.jpg", quality=_QUALITY, optimize=True
        )
        shown.append(f"![{stem}]({folder.name}/{stem}.jpg)\n\n{line}")
    text = PAGE.format(
        count=len(results.scene), name=results.names.own(name), pictures="\n\n".join(shown)
    )
    page.write_text(text, encoding="utf-8")


def draw(results: Results, name: str) -> Iterator[tuple[str, str, Picture]]:
    """(file's stem, a line about it, picture) of all that is shown."""
    scene, view = results.scene, results.scene[name]
    scaled, refined = results.scaled(name), results.refined(name)
    near, far = depth_range(scaled, refined.depth)
    sure = np.where(refined.valid, refined.confidence, np.nan)
    yield "photo", "One of the photos, without lens distortion.", load_rgb(view)
    yield (
        "before",
        "Depth before: the prior, fitted to the points of structure from motion. Warm is near.",
        depth_picture(scaled, near, far),
    )
    yield (
        "after",
        "Depth after refinement, in the same colours.",
        depth_picture(refined.depth, near, far),
    )
    yield (
        "confidence",
        "How sure that is: yellow is likely within 3 %, blue is not; grey has no depth.",
        value_picture(sure, 0, 1),
    )
    cloud = results.cloud(_MOST_POINTS)
    for side, turn in zip(("left", "right"), _TURNS_DEG, strict=True):
        pose = aside(scene, view, refined.depth, turn)
        yield (
            f"cloud-{side}",
            f"The fused cloud from the {side}; white is what no photo shows, or no other confirms.",
            cloud_picture(cloud, view.camera, pose),
        )
    settings = results.workspace.request().config.mesh
    mesh = without_fragments(fuse_mesh(scene, results.fused, settings))
    yield (
        "mesh",
        "The mesh from the right, without its colours and lit from the camera.",
        mesh_picture(mesh, view.camera, pose),
    )


def aside(scene: Scene, view: View, depth: NDArray[np.float32], turn_deg: float) -> Array:
    """A pose `cam_from_world` (4, 4) that looks at what the view shows from elsewhere: from
    `turn_deg` to the right, from higher up and a little farther away."""
    up, pose = map_axes(scene)[2], invert_pose(view.cam_from_world)
    middle = pose[:3, 3] + float(np.median(depth[depth > 0])) * pose[:3, 2]
    away = _turned(_BACK * (pose[:3, 3] - middle), up, turn_deg)
    away = _turned(away, np.cross(away, up), _RAISED_DEG)
    right = np.cross(-away, up)
    axes = np.stack([right, np.cross(-away, right), -away], axis=1)
    return invert_pose(pose_matrix(axes / np.linalg.norm(axes, axis=0), middle + away))


def _turned(vector: Array, axis: Array, angle_deg: float) -> Array:
    turn = Rotation.from_rotvec(np.deg2rad(angle_deg) * axis / np.linalg.norm(axis))
    return np.asarray(turn.apply(vector))


def cloud_picture(cloud: PointCloud, camera: PinholeCamera, cam_from_world: Array) -> Picture:
    """The points that face the camera (height, width, 3), the nearest on top, on white."""
    finer = _finer(camera)
    points = transform(cam_from_world, cloud.points)
    normals = cloud.normals @ cam_from_world[:3, :3].T
    facing = (points[:, 2] > 0) & (np.einsum("ij,ij->i", normals, points) <= 0)
    order = np.flatnonzero(facing)[np.argsort(-points[facing, 2])]
    xy, _ = finer.project(points[order])
    place = np.floor(xy[:, None, ::-1] + _DISC).astype(int).reshape(-1, 2)
    inside = ((place >= 0) & (place < finer.shape)).all(axis=1)
    picture = np.full((*finer.shape, 3), _WHITE, np.uint8)
    color = np.repeat(cloud.colors[order], len(_DISC), axis=0)
    picture[tuple(place[inside].T)] = color[inside]  # of one place the last, the nearest, stays
    return _coarser(picture)


def mesh_picture(mesh: TriangleMesh, camera: PinholeCamera, cam_from_world: Array) -> Picture:
    """The mesh (height, width, 3) in grey, brightest where it faces the camera, on white."""
    finer, renderer = _finer(camera), select_renderer("cpu")
    vertices = transform(cam_from_world, mesh.vertices)
    normals = mesh.normals @ cam_from_world[:3, :3].T
    facing = np.einsum("ij,ij->i", normals, -vertices) / np.linalg.norm(vertices, axis=1)
    q = torch.tensor(vertices @ finer.K.T, dtype=torch.float32)[None]
    triangles = torch.tensor(mesh.triangles)
    raster = renderer.rasterize(q, triangles, *finer.shape)
    shade = torch.tensor(facing[:, None].clip(0, 1), dtype=torch.float32)
    lit = renderer.interpolate(raster, shade, triangles)[0, ..., 0].numpy()
    grey = np.where(raster.coverage[0].numpy(), _DARK + (_WHITE - _DARK) * lit, _WHITE)
    return _coarser(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))


def _finer(camera: PinholeCamera) -> PinholeCamera:
    scale = np.diag([_FINER, _FINER, 1.0])
    size = {"width": _FINER * camera.width, "height": _FINER * camera.height}
    return PinholeCamera(K=scale @ camera.K, **size)


def _coarser(picture: Picture) -> Picture:
    return np.asarray(Image.fromarray(picture).reduce(_FINER))


if __name__ == "__main__":
    main()
