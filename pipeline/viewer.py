"""The results in a browser: cloud, cameras with photos, depth of a view before and after."""

from __future__ import annotations

import contextlib
import io
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.errors import InputError
from refdepth.io.colors import value_picture
from refdepth.io.images import read_rgb, read_thumbnail
from refdepth.io.ply import count_ply
from refdepth.pipeline.report.overview import map_axes
from refdepth.pipeline.results import Results
from refdepth.pipeline.spare import described
from refdepth.pipeline.viewer_start import check_port, load_viser
from refdepth.types.camera import invert_pose, transform
from refdepth.types.cloud import PointCloud
from refdepth.types.depth_map import DepthMap
from refdepth.types.scene import View

logger = logging.getLogger(__name__)

MAX_CLOUD_POINTS = 1_500_000
MAX_DEPTH_POINTS = 300_000
MAX_CAMERAS = 200
"""Of more views an even sample stands in the scene and in the list; others are found by name."""
PHOTO_PX, SMALL_PHOTO_PX = 320, 160
"""Widest picture at a camera, and where more than `FEW_CAMERAS` stand in the scene."""
FEW_CAMERAS = 60
NOTHING, SCALED, FIRST, REFINED = "nothing", "before (scaled prior)", "first round", "refined"
PHOTO, CONFIDENCE = "photo", "confidence"


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The handles in the side panel."""

    show_cloud: Any
    point_size: Any
    min_confidence: Any
    show_cameras: Any
    camera_size: Any
    view: Any
    name: Any
    """Where a view is found by its name; None where all are in the list."""
    depth: Any
    colors: Any
    look: Any


class Viewer:
    """A viser server that shows one workspace. `stop` ends it."""

    def __init__(self, results: Results, *, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Starts to serve.

        Raises `InputError` when there is nothing to show, `ResourceError` when the port is taken,
        `UnavailableError` when viser is not installed.
        """
        self._results = results
        self._scene = results.scene
        self._views = {results.names.own(view.name): view for view in self._scene.views}
        self._shown = [list(self._views)[row] for row in _even(len(self._views), MAX_CAMERAS)]
        self._cloud, self._points = self._read_cloud()
        viser = load_viser()
        check_port(host, port)
        with contextlib.redirect_stdout(io.StringIO()):  # viser prints a banner of its own
            self.server = viser.ViserServer(host=host, port=port, label="refdepth", verbose=False)
        shown = "localhost" if host in ("127.0.0.1", "0.0.0.0") else host
        self.url = f"http://{shown}:{self.server.get_port()}"
        self.frusta: dict[str, Any] = {}
        self.notes: list[str] = []
        """What the panel says about what is not shown."""
        self._center, self._distance = self._extent()
        self._place_camera()
        self.controls = self._panel()
        for name in self._shown:
            self._draw_camera(self._views[name])
        self._draw_cloud()

    def stop(self) -> None:
        """Ends the server."""
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    def wait(self) -> None:
        """Serves until interrupted."""
        self.server.sleep_forever()

    def _read_cloud(self) -> tuple[PointCloud, int]:
        """The fused cloud, before fusion the SfM points: a random sample, the same each time, where
        there are more than a browser takes; and the number of all."""
        try:
            cloud = self._results.cloud(MAX_CLOUD_POINTS)
            return cloud, count_ply(self._results.cloud_path)
        except InputError:
            points = self._scene.points
            cloud = PointCloud(
                points=points.xyz.astype(np.float32),
                normals=np.zeros((len(points), 3), np.float32),
                colors=points.rgb,
                confidence=np.ones(len(points), np.float32),
            )
            return cloud.thinned(MAX_CLOUD_POINTS), len(points)

    def _extent(self) -> tuple[NDArray[np.float64], float]:
        """Middle of the points and median distance from the cameras to it."""
        points = self._cloud.points
        centers = np.array([view.center for view in self._scene.views])
        middle = np.median(points, axis=0).astype(np.float64) if len(points) else centers.mean(0)
        distance = float(np.median(np.linalg.norm(centers - middle, axis=1)))
        return middle, max(distance, 1e-9)

    def _place_camera(self) -> None:
        """Up as the cameras' mean; the first look comes from behind the cameras."""
        up = map_axes(self._scene)[2]
        centers = np.array([view.center for view in self._scene.views])
        behind = centers.mean(axis=0) - self._center
        self.server.scene.set_up_direction(tuple(up))
        self.server.initial_camera.position = tuple(
            self._center + 1.5 * behind + 0.35 * self._distance * up
        )
        self.server.initial_camera.look_at = tuple(self._center)
        self.server.initial_camera.up = tuple(up)

    def _panel(self) -> Controls:
        gui = self.server.gui
        names = self._shown
        pixel = self._distance / self._scene.views[0].camera.mean_focal_px
        with gui.add_folder("Cloud"):
            if len(self._cloud) < self._points:
                self._note(f"{len(self._cloud):,} of {self._points:,} points, chosen at random")
            show_cloud = gui.add_checkbox("Show", True)
            point_size = gui.add_slider("Point size", 0.2, 5.0, 0.1, 1.5, hint="in photo pixels")
            min_confidence = gui.add_slider("Least confidence", 0.0, 1.0, 0.01, 0.0)
        with gui.add_folder("Cameras"):
            if len(names) < len(self._views):
                self._note(f"{len(names)} of {len(self._views):,}, evenly spread")
            show_cameras = gui.add_checkbox("Show", True)
            camera_size = gui.add_slider("Size", 0.01, 0.5, 0.01, self._camera_size())
        with gui.add_folder("Depth of one view"):
            view = gui.add_dropdown("View", names, initial_value=names[0])
            name = None
            if len(names) < len(self._views):
                name = gui.add_text("Other view", "", hint="a photo's name, or the end of its path")
            depth = gui.add_dropdown(
                "Depth",
                self._depth_kinds(),
                initial_value=NOTHING,
                hint="Shown in place of the cloud; switch that on again above.",
            )
            dropped = [kind for kind in self._results.dropped if kind in ("priors", "rounds")]
            if dropped:
                self._note(f"`refdepth clean` has dropped {described(dropped)}.")
            colors = gui.add_dropdown("Colours", (PHOTO, CONFIDENCE), initial_value=PHOTO)
            look = gui.add_button("Look through this camera")
        self._pixel = pixel
        controls = Controls(
            show_cloud=show_cloud,
            point_size=point_size,
            min_confidence=min_confidence,
            show_cameras=show_cameras,
            camera_size=camera_size,
            view=view,
            name=name,
            depth=depth,
            colors=colors,
            look=look,
        )
        for handle in (show_cloud, point_size, min_confidence):
            handle.on_update(lambda _: self._draw_cloud())
        if name is not None:
            name.on_update(lambda _: self._find())
        depth.on_update(lambda _: self._make_room())
        for handle in (point_size, min_confidence, view, depth, colors):
            handle.on_update(lambda _: self._draw_depth())
        show_cameras.on_update(lambda _: self._show_cameras())
        camera_size.on_update(lambda _: self._show_cameras())
        look.on_click(self._look)
        return controls

    def _note(self, text: str) -> None:
        self.server.gui.add_markdown(text)
        self.notes.append(text)

    def _camera_size(self) -> float:
        """Share of the distance to the points, such that neighbouring cameras do not overlap."""
        centers = np.array([self._views[name].center for name in self._shown])
        if len(centers) < 2:
            return 0.1
        from scipy.spatial import cKDTree

        gaps = cKDTree(centers).query(centers, k=2)[0][:, 1]
        share = 0.4 * float(np.median(gaps)) / self._distance
        return round(min(max(share, 0.02), 0.2), 2)

    def _depth_kinds(self) -> tuple[str, ...]:
        kinds = {SCALED: "scale", FIRST: "refine/first", REFINED: "refine"}
        return (NOTHING, *(kind for kind, stage in kinds.items() if self._results.views(stage)))

    def _draw_cloud(self) -> None:
        """Points that are sure enough, at the chosen size."""
        controls, cloud = self.controls, self._cloud
        keep = cloud.confidence >= controls.min_confidence.value
        self.cloud = self.server.scene.add_point_cloud(
            "/cloud",
            cloud.points[keep],
            cloud.colors[keep],
            point_size=controls.point_size.value * self._pixel,
            point_shape="circle",
            precision="float32",
            visible=controls.show_cloud.value,
        )

    def _draw_camera(self, view: View) -> None:
        world_from_cam = invert_pose(view.cam_from_world)
        width = PHOTO_PX if len(self._shown) <= FEW_CAMERAS else SMALL_PHOTO_PX
        frustum = self.server.scene.add_camera_frustum(
            f"/cameras/{view.name}",
            fov=2 * float(np.arctan(view.camera.height / 2 / view.camera.K[1, 1])),
            aspect=view.camera.width / view.camera.height,
            scale=self.controls.camera_size.value * self._distance,
            thickness=1.5,
            thickness_units="screen",
            color=(60, 120, 190),
            image=read_thumbnail(view.image_path, width),
            wxyz=_quaternion(world_from_cam[:3, :3]),
            position=tuple(world_from_cam[:3, 3]),
            visible=self.controls.show_cameras.value,
        )
        frustum.on_click(lambda _: self._choose(view.name))
        self.frusta[view.name] = frustum

    def _find(self) -> None:
        """Puts a view that was named into the list and the scene, and chooses it."""
        controls = self.controls
        try:
            found = self._results.names.meant(controls.name.value.strip())
        except InputError:
            found = None
        if found is None or found not in self._scene:
            return
        own = self._results.names.own(found)
        if found not in self.frusta:
            self._draw_camera(self._views[own])
            controls.view.options = (*controls.view.options, own)
        controls.view.value = own

    def _show_cameras(self) -> None:
        for frustum in self.frusta.values():
            frustum.visible = self.controls.show_cameras.value
            frustum.scale = self.controls.camera_size.value * self._distance

    def _choose(self, name: str) -> None:
        """A click on a camera shows its depth."""
        self.controls.view.value = self._results.names.own(name)
        if self.controls.depth.value == NOTHING:
            self.controls.depth.value = self._depth_kinds()[-1]

    def _make_room(self) -> None:
        """The cloud would hide what differs between a view's depth before and after."""
        self.controls.show_cloud.value = self.controls.depth.value == NOTHING

    def _draw_depth(self) -> None:
        """The chosen view's depth as points."""
        controls = self.controls
        view = self._views[controls.view.value]
        found = self._depth(view.name, controls.depth.value)
        if found is None:
            self.depth = self.server.scene.add_point_cloud(
                "/depth", np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), visible=False
            )
            return
        step = max(1, int(np.ceil(np.sqrt(found.depth.size / MAX_DEPTH_POINTS))))
        depth, confidence = found.depth[::step, ::step], found.confidence[::step, ::step]
        keep = (depth > 0) & (confidence >= controls.min_confidence.value)
        rays = view.camera.rays()[::step, ::step][keep]
        points = transform(invert_pose(view.cam_from_world), rays * depth[keep][:, None])
        if controls.colors.value == CONFIDENCE:
            rgb = value_picture(confidence, 0, 1)
        else:
            rgb = read_rgb(view.image_path)[::step, ::step]
        self.depth = self.server.scene.add_point_cloud(
            "/depth",
            points.astype(np.float32),
            rgb[keep],
            point_size=controls.point_size.value * self._pixel * step,
            point_shape="circle",
            precision="float32",
        )

    def _depth(self, name: str, kind: str) -> DepthMap | None:
        try:
            if kind == SCALED:
                depth = self._results.scaled(name)
                return DepthMap(depth=depth, confidence=(depth > 0).astype(np.float32))
            if kind == FIRST:
                return self._results.first_round(name)
            if kind == REFINED:
                return self._results.refined(name)
        except (InputError, KeyError, ValueError) as error:
            logger.warning(
                "%s of %s cannot be shown: %s", kind, self._results.names.own(name), error
            )
        return None

    def _look(self, event: Any) -> None:
        """Moves the looker into the chosen camera. Its photo would hang before everything."""
        self.controls.show_cameras.value = False
        view = self._views[self.controls.view.value]
        world_from_cam = invert_pose(view.cam_from_world)
        camera = event.client.camera
        with event.client.atomic():
            camera.position = world_from_cam[:3, 3]
            camera.look_at = transform(world_from_cam, [0, 0, self._distance])
            camera.up_direction = -world_from_cam[:3, 1]
            camera.fov = 2 * float(np.arctan(view.camera.height / 2 / view.camera.K[1, 1]))


def _even(count: int, most: int) -> NDArray[np.intp]:
    """Rows of an even sample of `most`; all where there are no more."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.intp)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(w, x, y, z) of a rotation matrix."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return float(w), float(x), float(y), float(z)
