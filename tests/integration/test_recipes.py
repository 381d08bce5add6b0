"""The commands of docs/recipes.md, as they stand there and in their order, on generated data."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True)
class Recipe:
    """A section of the page."""

    title: str
    given: str
    """What its commands start from."""
    make: Callable[[Path], object]
    out: str
    """The output folder that they name."""


RECIPES = {
    recipe.out: recipe
    for recipe in (
        Recipe("Phone video to a splat", "walk.mp4", data.film_of_a_walk, "walk"),
        Recipe("Drone photos to a COPC in QGIS", "drone", data.photos_of_a_flight, "field"),
        Recipe("An existing COLMAP project", "project", data.colmap_project, "house"),
        Recipe("360 degree video", "tour.mp4", data.film_of_a_tour, "tour"),
    )
}


def sections() -> dict[str, str]:
    """The page's sections by title."""
    found = [part.partition("\n") for part in PAGE.split("\n## ")[1:]]
    return {title: text for title, _, text in found}


def blocks(text: str) -> list[tuple[str, str, str]]:
    """(language, text, the last line before it) of each fenced block."""
    found = re.findall(r"^(.*)\n\n```(\w*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    assert len(found) * 2 == len(re.findall("^```", text, re.MULTILINE))
    return [(language, code, before) for before, language, code in found]


def commands(text: str) -> list[list[str]]:
    """The words of each command that is run, in order."""
    lines = [line for language, code, _ in blocks(text) if language for line in code.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By an output folder's name, the folder where somebody typed its recipe's commands, without
    network weights at hand."""

    @cache
    def follow(out: str) -> Path:
        recipe, folder = RECIPES[out], tmp_path_factory.mktemp(out)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("HF_HUB_OFFLINE", "1")
            patch.setenv("HF_HUB_CACHE", str(folder / "cache"))
            recipe.make(Path(recipe.given))
            for program, *words in commands(sections()[recipe.title]):
                assert program == "refdepth"
                assert run(words) == 0, words
        return folder

    return follow


def test_what_is_not_run_is_said_to_be_another_programs() -> None:
    found = blocks(PAGE)
    assert {language for language, _, _ in found} == {"bash", ""}
    for language, text, before in found:
        if not language:
            assert re.search(r"own commands?, which no test here runs", before), text
            assert "refdepth " not in text
    assert list(sections()) == [recipe.title for recipe in RECIPES.values()]
    assert all(len(commands(text)) >= 2 for text in sections().values())


@pytest.mark.parametrize("out", RECIPES)
def test_what_the_page_says_comes_out_is_there(followed: Callable[[str], Path], out: str) -> None:
    folder = followed(out)
    said = re.findall(rf"`({out}/[\w./]+)`", sections()[RECIPES[out].title])
    assert said
    missing = [path for path in said if not (folder / path).exists()]
    assert not missing
    empty = [path for path in said if path.endswith("/") and not any((folder / path).iterdir())]
    assert not empty


@pytest.mark.parametrize("out", RECIPES)
def test_every_view_is_placed_and_refined(followed: Callable[[str], Path], out: str) -> None:
    results = Results(Workspace(followed(out) / out))
    manifest = results.manifest("sfm")
    assert manifest is not None
    assert not manifest.summary["failed"]
    assert set(results.views("refine")) == set(results.scene.names)
    assert len(results.scene) >= 4


@pytest.mark.parametrize("out", ["walk", "tour"])
def test_trainers_get_dense_tracks_and_depth_of_each_view(
    followed: Callable[[str], Path], out: str
) -> None:
    export = followed(out) / out / "export"
    model = pycolmap.Reconstruction(str(export / "gsplat" / "sparse" / "0"))
    seen = [image.num_points3D for image in model.images.values()]
    assert len(seen) == len(Results(Workspace(followed(out) / out)).scene)
    assert np.median(seen) > 1000
    frames = json.loads((export / "nerfstudio" / "transforms.json").read_text())["frames"]
    assert len(frames) == len(seen)
    assert all((export / "nerfstudio" / frame["depth_file_path"]).is_file() for frame in frames)


def test_the_drones_cloud_lies_on_the_map_at_its_height(
    followed: Callable[[str], Path],
) -> None:
    with laspy.open(followed("field") / "field/export/cloud/cloud.copc.laz") as reader:
        crs = reader.header.vlrs.get("WktCoordinateSystemVlr")[0].string
        cloud = reader.read()
    assert 'AUTHORITY["EPSG","32632"]' in crs or 'ID["EPSG",32632]' in crs
    assert len(cloud) > 10_000
    # The ground is flat: its height is the cloud's most frequent one. Photos from one height tell
    # focal length from distance poorly, so heights below the drone are a few percent off.
    counts, edges = np.histogram(cloud.z, bins=np.arange(cloud.z.min(), cloud.z.max(), 0.2))
    ground = edges[counts.argmax()] + 0.1
    assert ground == pytest.approx(data.GROUND_M, abs=0.04 * data.FLIGHT_M)
    assert np.quantile(cloud.z, 0.999) - ground == pytest.approx(data.HIGHEST_ROOF_M, rel=0.06)
    assert np.median(cloud.x) == pytest.approx(easting(data.ORIGIN), abs=5)


def easting(place: Origin) -> float:
    """UTM easting in zone 32 of a place near its meridian, by the projection's first term."""
    latitude, away = np.radians([place.latitude_deg, place.longitude_deg - 9])
    radius = 6_378_137 / np.sqrt(1 - 0.00669438 * np.sin(latitude) ** 2)
    return float(500_000 + 0.9996 * radius * np.cos(latitude) * away)


def test_a_colmap_projects_cameras_stay_and_its_depth_is_right(
    followed: Callable[[str], Path],
) -> None:
    folder = followed("house")
    given = pycolmap.Reconstruction(str(folder / "project/sparse/0"))
    found = pycolmap.Reconstruction(str(folder / "house/export/colmap/sparse"))
    centers = {image.name: image.projection_center() for image in found.images.values()}
    results = Results(Workspace(folder / "house"))
    for image in given.images.values():
        assert np.allclose(image.projection_center(), centers[image.name], atol=1e-9)
    exact = {Path(view.name).stem: view.depth for view in data.project_scene().views}
    off = [np.abs(results.refined(n).depth / exact[Path(n).stem] - 1) for n in results.scene.names]
    assert np.mean([error < 0.03 for error in off]) > 0.7
    assert np.median(off) < 0.01
