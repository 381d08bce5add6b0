"""The report: self-contained, escaped, whole for unfinished runs, true in its figures."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_room import ExactRoom
from numpy.testing import assert_allclose
from PIL import Image
from recorded_executor import RecordedExecutor

from refdepth.errors import Interrupted
from refdepth.pipeline.cancellation import Cancellation
from refdepth.pipeline.config import RunInputs, RunRequest, build_config
from refdepth.pipeline.files import read_sealed, write_json, write_sealed
from refdepth.pipeline.priors import FALLBACK_NOTE
from refdepth.pipeline.progress import Silent
from refdepth.pipeline.report import write_report
from refdepth.pipeline.report.advice import advise
from refdepth.pipeline.report.charts import lines, reliability, scatter, ticks
from refdepth.pipeline.report.facts import left_out
from refdepth.pipeline.report.overview import draw_overview, map_axes
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.images: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img", "image", "line", "path", "polygon", "circle", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href"):
                self.links.append(value or "")
            if name == "src" and tag == "img":
                self.images.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        self.text += data


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    stored = read_sealed(path)
    edited = stored or json.loads(path.read_text())
    edit(edited)
    (write_sealed if stored else write_json)(path, edited)


def test_the_page_needs_nothing_else(finished: Workspace) -> None:
    page = Page(write_report(finished))
    assert not page.open
    assert "script" not in page.tags
    assert all(link.startswith("data:image/") for link in page.links)
    assert len(page.images) == 7 * 7
    for uri in page.images:
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as picture:
            assert picture.format == "JPEG"
            picture.load()


def test_it_says_what_was_done_and_shows_every_view(finished: Workspace, room: ExactRoom) -> None:
    text = Page(write_report(finished)).text
    for name in room.scene.names:
        assert name in text
    points = json.loads((finished.root / "fuse" / "manifest.json").read_text())["summary"]["points"]
    assert f"{points:,}" in text
    assert "finished" in text
    assert "not finished" not in text
    assert "9.0 s" in text  # six stages of 1.5 s
    assert "Nothing stood out" in text


def test_names_from_outside_are_escaped(finished: Workspace) -> None:
    nasty = "<script>alert('x')</script>&\".jpg"
    change(
        finished.root / "sfm" / "manifest.json",
        lambda d: d["summary"].update(failed=[nasty], warnings=[f"see {nasty}"]),
    )
    change(finished.root / "fuse" / "manifest.json", lambda d: d["summary"].update(headline=nasty))
    page = Page(write_report(finished))
    assert "script" not in page.tags
    assert page.text.count(nasty) == 3


def test_changed_settings_are_listed_with_their_defaults(finished: Workspace) -> None:
    config = build_config(assignments=["fuse.voxel_px=3.5"])
    finished.write_request(RunRequest(inputs=RunInputs(images="photos"), config=config))
    html = write_report(finished).read_text()
    changed = html.split("<h2>Settings</h2>")[1].split("All settings")[0]
    assert "fuse.voxel_px" in changed
    assert "3.5" in changed
    assert "default 0.7" in changed
    assert changed.count("<tr>") == 1


@pytest.mark.parametrize("left", ["prepare", "sfm", "depth", "scale", "refine"])
def test_a_run_that_stopped_after_a_stage_has_a_report(finished: Workspace, left: str) -> None:
    import shutil

    stages = ["prepare", "sfm", "depth", "scale", "refine", "fuse"]
    for stage in stages[stages.index(left) + 1 :]:
        shutil.rmtree(finished.root / stage)
    page = Page(write_report(finished))
    assert "not finished" in page.text


def test_settings_of_another_version_do_not_stop_it(finished: Workspace) -> None:
    change(finished.root / "refdepth.json", lambda d: d["config"]["fuse"].update(gone=1))
    assert "another version" in Page(write_report(finished)).text


def test_damaged_artifacts_are_left_out(finished: Workspace, room: ExactRoom) -> None:
    name = room.scene.names[0]
    (finished.root / "refine" / f"{name}.npz").write_bytes(b"rubbish")
    (finished.root / "scale" / f"{name}.json").write_text("{")
    (finished.root / "fuse" / "cloud.ply").write_bytes(b"rubbish")
    page = Page(write_report(finished))
    assert len(page.images) == 7 * 7 - 4  # scaled, refined, confidence, difference
    assert "Seen from above" in page.text


def test_the_page_does_not_depend_on_who_drew_it(
    finished: Workspace, room: ExactRoom, workers: RecordedExecutor
) -> None:
    (finished.root / "refine" / f"{room.scene.names[0]}.npz").write_bytes(b"rubbish")
    here = write_report(finished).read_bytes()
    there = write_report(finished, workers).read_bytes()
    assert there == here
    assert len(workers.places) == 2
    assert "" not in workers.places
    assert sorted(name for _, name in workers.done) == sorted(room.scene.names)


def test_a_stop_between_two_views_leaves_the_page_as_it_was(
    finished: Workspace, executor: RecordedExecutor
) -> None:
    (finished.root / "report.html").write_text("the page before")
    cancellation = Cancellation()

    class Stop(Silent):
        def step(self, label: str, done: float, total: float | None) -> None:
            if done >= 2:
                cancellation.request()

    with pytest.raises(Interrupted):
        write_report(finished, executor, progress=Stop(), cancellation=cancellation)
    assert 2 <= len(executor.done) < 7
    assert (finished.root / "report.html").read_text() == "the page before"


def test_advice_groups_views_and_says_what_to_try() -> None:
    advice = advise(
        {
            "sfm": {"registered": ["a", "b"], "failed": ["c"]},
            "depth": {"requested": "auto", "without_prior": [], "warnings": [FALLBACK_NOTE]},
        },
        {"a": {"flags": ["few_points"]}, "b": {"flags": ["few_points", "borrowed"]}},
        {
            "a": {"flags": [], "accepted_share": 0.1, "kept_prior": True},
            "b": {"flags": ["something_new"], "accepted_share": 0.9, "kept_prior": False},
        },
    )
    found = {item.what: item for item in advice}
    assert found["1 of 3 photos could not be placed."].names == ("c",)
    few = next(item for what, item in found.items() if "too few SfM points" in what)
    assert few.names == ("a", "b")
    assert "overlap" in few.try_
    assert found["Views marked something new."].names == ("b",)
    turned = next(item for what, item in found.items() if "turned down" in what)
    assert turned.names == ("a",)
    assert f"depth: {FALLBACK_NOTE}" in found


def test_a_view_without_a_prior_is_told_once() -> None:
    advice = advise(
        {
            "depth": {"without_prior": ["a"], "warnings": ["a: has no prior"]},
            "prepare": {"skipped": [{"original": "b", "reason": "the same picture as a"}]},
        },
        {"a": {"flags": ["no_points", "borrowed"]}},
        {"a": {"flags": ["no_prior"], "accepted_share": 0.0}},
    )
    about = [item for item in advice if "a" in item.names]
    assert ["without any depth" in item.what for item in about] == [True]
    skipped = [item for item in advice if item not in about]
    assert [item.what for item in skipped] == ["1 file was not used."]
    assert skipped[0].try_ == ""


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert ticks(-3.2, 17) == [0, 5, 10, 15]
    assert ticks(0.0123, 0.0127) == [0.0123, 0.0124, 0.0125, 0.0126, 0.0127]
    assert ticks(1, 1) == []


def test_charts_escape_and_vanish_without_data() -> None:
    chart = scatter([1, 2], [1, 2], [True, False], line=(1, 0), x_label="<x>", y_label="y")
    assert chart is not None
    assert "<x>" not in chart
    assert chart.count("h0") == 2
    assert scatter([], [], [], line=None, x_label="x", y_label="y") is None
    assert lines({"a": [1.0], "b": [np.nan, 1]}, x_label="x", y_label="y") is None


def test_stated_and_true_shares_are_drawn_over_their_diagonal() -> None:
    chart = reliability({"<a>": [(0.0, 0.0), (1.0, 1.0)]}, x_label="stated", y_label="true")
    assert chart is not None
    assert "<a>" not in chart
    diagonal, line = (
        chart.split(f'class="{name}" d="M')[1].split('"')[0] for name in ("fit", "line s0")
    )
    assert diagonal == line  # what is stated turns out
    assert reliability({"a": []}, x_label="stated", y_label="true") is None


def test_losses_are_drawn_from_zero() -> None:
    chart = lines({"a": [10.0, 10.2, 10.1]}, x_label="step", y_label="loss")
    assert chart is not None
    assert ">0</text>" in chart
    path = re.search(r'class="line s0" d="M([^"]+)"', chart)
    assert path is not None
    heights = [float(pair.split()[1]) for pair in path[1].split("L")]
    assert np.ptp(heights) < 10  # of 200


def test_a_view_that_mostly_stayed_as_it_was_is_named(finished: Workspace) -> None:
    name = Results(finished).views("refine")[0]
    record = finished.root / "refine" / f"{name}.json"
    change(record, lambda d: d["record"].update(accepted_share=0.4))
    page = write_report(finished)
    assert "most of the refinement was turned down" in Page(page).text
    assert 'class="badge flag">40 % accepted' in page.read_text()


def test_what_has_no_depth_on_purpose_is_said_for_each_view_and_in_all(
    finished: Workspace,
) -> None:
    views = Results(finished).views("refine")
    shares = [{"sky_share": 0.4, "masked_share": 0.0}, {"sky_share": 0.0, "masked_share": 0.25}]
    for name, told in zip(views, shares, strict=False):
        change(
            finished.root / "refine" / f"{name}.json", lambda d, told=told: d["record"].update(told)
        )
    page = write_report(finished).read_text()
    assert page.count("Without depth") == 2
    assert ">40 % sky<" in page
    assert ">25 % masked<" in page
    # Of the two views that say so, all of one size.
    assert "of all pixels, without depth</dt><dd>20 % sky, 12 % masked<" in page


def test_parts_without_depth_are_weighed_by_their_pixels() -> None:
    views = [{"sky_share": 0.5}, {"sky_share": 0.0, "masked_share": 0.02}]
    assert left_out(*views, weights=[3.0, 1.0]) == "38 % sky, 0.5 % masked"
    assert left_out(views[0]) == "50 % sky"
    assert left_out({"sky_share": 0.0, "masked_share": 0.0}) == ""
    assert left_out({}) == ""


def test_the_map_looks_down_on_the_cameras(room: ExactRoom) -> None:
    axes = map_axes(room.scene)
    assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(axes) == pytest.approx(-1)  # right, down, up: the page's y points down
    assert axes[2] @ [0, -1, 0] > 0.95  # the room's y points down
    overview = draw_overview(room.scene, room.scene.points.xyz, room.scene.points.rgb)
    assert overview is not None
    spots = np.array([(camera.x, camera.y) for camera in overview.cameras])
    centers = np.array([view.center for view in room.scene.views]) @ axes[:2].T
    # The map is a similarity: ratios of distances hold.
    a = np.linalg.norm(np.diff(spots, axis=0), axis=1)
    b = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert_allclose(a / b, (a / b)[0], rtol=0.02)
    assert (spots > 0).all()
    assert (spots < [overview.width, overview.height]).all()
