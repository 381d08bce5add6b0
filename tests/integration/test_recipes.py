"""The commands of docs/recipes.md, as they stand there and in their order, on generated data."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from refdepth._pycolmap import pycolmap
from refdepth.cli.main import run
from refdepth.metric.geodesy import Origin
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace

pytest.importorskip("av")
laspy = pytest.importorskip("laspy")
pytest.importorskip("copclib")

import recipe_data as data  # noqa: E402  (needs av)

PAGE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
MAKERS: dict[str, Callable[[Path], object]] = {
    "walk.mp4": data.film_of_a_walk,
    "drone": data.photos_of_a_flight,
    "project": data.colmap_project,
    "tour.mp4": data.film_of_a_tour,
}
OUTPUTS = {"walk.mp4": "walk", "drone": "field", "project": "house", "tour.mp4": "tour"}


def blocks(page: str) -> list[tuple[str, str, str]]:
    """(language, text, the last line before it) of each fenced block."""
    found = re.findall(r"^(.*)\n\n```(\w*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    assert len(found) * 2 == len(re.findall("^```", page, re.MULTILINE))
    return [(language, text, before) for before, language, text in found]


def commands(page: str) -> list[list[str]]:
    """The words of each command that is run, in order."""
    lines = [line for language, text, _ in blocks(page) if language for line in text.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which somebody typed all of them, without network weights at hand."""
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HUB_CACHE", str(folder / "cache"))
        for name, make in MAKERS.items():
            make(Path(name))
        for program, *words in commands(PAGE):
            assert program == "refdepth"
            assert run(words) == 0, words
    return folder


def test_what_is_not_run_is_said_to_be_another_programs() -> None:
    found = blocks(PAGE)
    assert {language for language, _, _ in found} == {"bash", ""}
    for language, text, before in found:
        if not language:
            assert re.search(r"own commands?, which no test here runs", before), text
            assert "refdepth " not in text
    assert len(commands(PAGE)) >= 2 * len(MAKERS)


def test_what_the_page_says_comes_out_is_there(followed: Path) -> None:
    said = re.findall(rf"`((?:{'|'.join(OUTPUTS.values())})/[\w./]+)`", PAGE)
    assert len(said) >= 10
    missing = [path for path in said if not (followed / path).exists()]
    assert not missing
    empty = [path for path in said if path.endswith("/") and not any((followed / path).iterdir())]
    assert not empty


@pytest.mark.parametrize("given", MAKERS)
def test_every_view_is_placed_and_refined(followed: Path, given: str) -> None:
    results = Results(Workspace(followed / OUTPUTS[given]))
    manifest = results.manifest("sfm")
    assert manifest is not None
    assert not manifest.summary["failed"]
    assert set(results.views("refine")) == set(results.scene.names)
    assert len(results.scene) >= 4


def test_trainers_get_a_model_with_dense_tracks_of_each_view(followed: Path) -> None:
    for name in ("walk", "tour"):
        model = pycolmap.Reconstruction(str(followed / name / "export/gsplat/sparse/0"))
        seen = [image.num_points3D for image in model.images.values()]
        assert len(seen) == len(Results(Workspace(followed / name)).scene)
        assert np.median(seen) > 1000
        frames = json.loads((followed / name / "export/nerfstudio/transforms.json").read_text())
        for frame in frames["frames"]:
            assert (followed / name / "export/nerfstudio" / frame["depth_file_path"]).is_file()


def test_the_drones_cloud_lies_on_the_map_at_its_height(followed: Path) -> None:
    with laspy.open(followed / "field/export/cloud/cloud.copc.laz") as reader:
        crs = reader.header.vlrs.get("WktCoordinateSystemVlr")[0].string
        cloud = reader.read()
    assert 'AUTHORITY["EPSG","32632"]' in crs or 'ID["EPSG",32632]' in crs
    assert len(cloud) > 10_000
    # The ground is flat: its height is the cloud's most frequent one.
    counts, edges = np.histogram(cloud.z, bins=np.arange(cloud.z.min(), cloud.z.max(), 0.2))
    assert edges[counts.argmax()] + 0.1 == pytest.approx(data.GROUND_M, abs=0.4)
    # And the highest house is 6.8 m, with a roof of 0.5 m around its top.
    assert np.quantile(cloud.z, 0.999) - data.GROUND_M == pytest.approx(7, abs=0.7)
    assert np.median(cloud.x) == pytest.approx(easting(data.ORIGIN), abs=5)


def easting(place: Origin) -> float:
    """UTM easting in zone 32 of a place near its meridian, by the projection's first term."""
    latitude, away = np.radians([place.latitude_deg, place.longitude_deg - 9])
    radius = 6_378_137 / np.sqrt(1 - 0.00669438 * np.sin(latitude) ** 2)
    return float(500_000 + 0.9996 * radius * np.cos(latitude) * away)


def test_a_colmap_projects_cameras_stay_and_its_depth_is_right(followed: Path) -> None:
    given = pycolmap.Reconstruction(str(followed / "project/sparse/0"))
    found = pycolmap.Reconstruction(str(followed / "house/export/colmap/sparse"))
    centers = {image.name: image.projection_center() for image in found.images.values()}
    results = Results(Workspace(followed / "house"))
    for image in given.images.values():
        assert np.allclose(image.projection_center(), centers[image.name], atol=1e-9)
    with_truth = {Path(view.name).stem: view.depth for view in data.project_scene().views}
    for name in results.scene.names:
        true = with_truth[Path(name).stem]
        depth = results.refined(name).depth
        assert (np.abs(depth / true - 1) < 0.03).mean() > 0.7
