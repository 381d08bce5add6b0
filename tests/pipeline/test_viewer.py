"""The viewer: what its controls show, and that a real browser gets it."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from exact_room import ExactRoom
from numpy.testing import assert_allclose
from PIL import Image

from refdepth.errors import InputError, ResourceError
from refdepth.pipeline import viewer as viewer_module
from refdepth.pipeline.results import Results
from refdepth.pipeline.viewer import CONFIDENCE, NOTHING, REFINED, SCALED, Viewer
from refdepth.pipeline.workspace import Workspace
from refdepth.types.camera import transform

pytest.importorskip("viser")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def viewer(finished: Workspace) -> Iterator[Viewer]:
    viewer = Viewer(Results(finished), port=free_port())
    yield viewer
    viewer.stop()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_listens_on_this_machine_only(viewer: Viewer) -> None:
    assert viewer.server.get_host() == "127.0.0.1"
    with socket.create_connection(("127.0.0.1", viewer.server.get_port()), timeout=5):
        pass


def test_a_taken_port_is_named(finished: Workspace) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ResourceError, match=f"{other.getsockname()[1]}.* --port"),
    ):
        Viewer(Results(finished), port=other.getsockname()[1])


def test_without_cameras_there_is_nothing_to_see(finished: Workspace) -> None:
    (finished.root / "sfm" / "manifest.json").unlink()
    with pytest.raises(InputError, match="reconstruct"):
        Viewer(Results(finished), port=free_port())


def test_before_fusion_the_sfm_points_are_shown(finished: Workspace, room: ExactRoom) -> None:
    (finished.root / "fuse" / "cloud.ply").unlink()
    viewer = Viewer(Results(finished), port=free_port())
    assert_allclose(viewer.cloud.points, room.scene.points.xyz.astype(np.float32))
    viewer.stop()


def test_the_confidence_filter_and_point_size_change_the_cloud(viewer: Viewer) -> None:
    everything, size = len(viewer.cloud.points), viewer.cloud.point_size
    viewer.controls.min_confidence.value = 0.7
    eventually(lambda: 0 < len(viewer.cloud.points) < everything)
    viewer.controls.point_size.value = 3.0
    eventually(lambda: viewer.cloud.point_size == pytest.approx(2 * size))
    viewer.controls.show_cloud.value = False
    eventually(lambda: not viewer.cloud.visible)


def test_a_views_depth_lies_where_its_camera_sees_it(viewer: Viewer, room: ExactRoom) -> None:
    view = room.scene.views[2]
    viewer.controls.view.value = view.name
    viewer.controls.depth.value = REFINED
    eventually(lambda: hasattr(viewer, "depth") and len(viewer.depth.points) > 0)
    eventually(lambda: not viewer.cloud.visible)
    time.sleep(0.3)
    z = transform(view.cam_from_world, viewer.depth.points)[:, 2]
    exact = room.depth[view.name]
    assert_allclose(np.sort(z), np.sort(exact[exact > 0]), rtol=1e-3)
    colors = viewer.depth.colors
    viewer.controls.colors.value = CONFIDENCE
    eventually(lambda: not np.array_equal(viewer.depth.colors, colors))
    refined = viewer.depth.points
    viewer.controls.depth.value = SCALED
    eventually(lambda: not np.array_equal(viewer.depth.points, refined))
    viewer.controls.depth.value = NOTHING
    eventually(lambda: not viewer.depth.visible)
    eventually(lambda: viewer.cloud.visible)


def test_cameras_stand_at_their_centres_and_can_be_hidden(viewer: Viewer, room: ExactRoom) -> None:
    for view in room.scene.views:
        frustum = viewer.frusta[view.name]
        assert_allclose(frustum.position, view.center, atol=1e-6)
        assert frustum.image is not None
    viewer.controls.show_cameras.value = False
    eventually(lambda: not any(f.visible for f in viewer.frusta.values()))


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_click_in_a_real_browser_changes_the_scene(viewer: Viewer, tmp_path: Path) -> None:
    browser = Browser(viewer.url, tmp_path / "profile")
    try:
        browser.wait_until("document.body.innerText.includes('Least confidence')")
        eventually(lambda: bool(viewer.server.get_clients()), 30)
        eventually(lambda: colorfulness(browser.screenshot()) > 0.02, 60)
        before = colorfulness(browser.screenshot())
        box = browser.evaluate(
            "(() => { const r = [...document.querySelectorAll('input[type=checkbox]')]"
            ".filter(e => e.getBoundingClientRect().width)[0].getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        browser.click(*box)
        eventually(lambda: not viewer.cloud.visible)
        eventually(lambda: colorfulness(browser.screenshot()) < 0.5 * before, 30)
    finally:
        browser.close()


def colorfulness(png: bytes) -> float:
    """Share of the left part of the page, away from the panel, that is not white."""
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGB"))[150:, :850]
    return float((pixels.min(axis=-1) < 200).mean())


def test_a_large_cloud_is_shown_as_a_stated_sample(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Results(finished).cloud()
    monkeypatch.setattr(viewer_module, "MAX_CLOUD_POINTS", 500)
    said: list[str] = []
    shown = []
    for _ in range(2):
        viewer = Viewer(Results(finished), port=free_port())
        shown.append(viewer.cloud.points)
        said = viewer.notes
        viewer.stop()
    assert len(shown[0]) == 500
    assert np.array_equal(*shown)
    assert {tuple(point) for point in shown[0]} <= {tuple(point) for point in whole.points}
    assert said == [f"500 of {len(whole):,} points, chosen at random"]


def test_of_many_views_some_are_shown_and_the_others_found_by_name(
    finished: Workspace, room: ExactRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer_module, "MAX_CAMERAS", 3)
    viewer = Viewer(Results(finished), port=free_port())
    names = room.scene.names
    assert list(viewer.frusta) == [names[0], names[3], names[6]]
    assert viewer.controls.view.options == (names[0], names[3], names[6])
    assert viewer.notes == ["3 of 7, evenly spread"]
    viewer.controls.name.value = "nobody"
    viewer.controls.name.value = Path(names[1]).stem
    eventually(lambda: viewer.controls.view.value == names[1])
    assert names[1] in viewer.frusta
    viewer.stop()
