"""Pairs by looks, models that share photos, and mappings that go on: on a street that repeats."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refdepth._pycolmap import pycolmap
from refdepth.errors import InputError, Interrupted
from refdepth.ingest import PreparedPhoto
from refdepth.sfm import chosen_pairs, mapping, placing
from refdepth.sfm.alike import train
from refdepth.sfm.database import matched_features
from refdepth.sfm.joining import join_models
from refdepth.sfm.mapping import reconstruct
from refdepth.sfm.native import run_step
from refdepth.sfm.settings import SfmSettings
from refdepth.synthetic.street import Street, make_street

SETTINGS = SfmSettings(
    matching="retrieval",
    neighbours=8,
    max_features=400,
    guided_matching="off",
    mapper="incremental",
)
PAIRS_LIMIT = 0.2


@dataclass(frozen=True)
class Placed:
    """A reconstructed street."""

    street: Street
    images: Path
    photos: list[PreparedPhoto]
    out: Path


@pytest.fixture(scope="module")
def placed(prepare, tmp_path_factory: pytest.TempPathFactory) -> Placed:
    folder = tmp_path_factory.mktemp("street")
    street = make_street(70, width=240, height=180)
    street.write_photos(folder / "given")
    photos = prepare(folder / "given", folder / "images")
    reconstruct(folder / "images", photos, folder / "sfm", SETTINGS)
    return Placed(street, folder / "images", photos, folder / "sfm")


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def registered(model: Any) -> dict[str, np.ndarray]:
    """Centres of the placed photos."""
    return {i.name: i.projection_center() for i in model.images.values() if i.has_pose}


def largest_error(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> float:
    """Largest distance of a camera from its true place, after the best similarity."""
    names = sorted(found)
    a, b = (np.array([places[name] for name in names]) for places in (found, exact))
    fit = pycolmap.estimate_sim3d(a, b)
    moved = fit.scale * a @ fit.rotation.matrix().T + fit.translation
    return float(np.linalg.norm(moved - b, axis=1).max())


def test_photos_that_look_alike_suffice_to_place_a_repeated_street(placed: Placed) -> None:
    found = registered(pycolmap.Reconstruction(placed.out / "sparse"))
    count = len(placed.photos)
    assert len(found) >= 0.95 * count
    exact = dict(zip(placed.street.names, placed.street.centers, strict=True))
    assert largest_error(found, exact) < 3  # metres: half a house; a wrong loop is off by houses
    with pycolmap.Database.open(placed.out / "database.db") as database:
        pairs = database.num_matched_image_pairs()
    assert pairs < PAIRS_LIMIT * count * (count - 1) / 2


def test_stopped_while_looking_and_matching_it_ends_with_the_same_pairs(
    placed: Placed, tmp_path: Path
) -> None:
    stops = ("finding photos that look alike", "matching photos")
    photos = placed.photos[:14]
    reached: list[str] = []

    def watch(label: str, done: float, total: float | None) -> None:
        if len(reached) < len(stops) and label == stops[len(reached)] and done > 0:
            reached.append(label)

    settings = SETTINGS.model_copy(update={"neighbours": 4})
    for _ in stops:
        before = len(reached)
        with pytest.raises(Interrupted):
            reconstruct(
                placed.images,
                photos,
                tmp_path / "stopped",
                settings,
                progress=watch,
                cancelled=lambda before=before: len(reached) > before,
            )
    kept = (tmp_path / "stopped/alike.json").stat().st_mtime_ns
    for out in ("stopped", "whole"):
        reconstruct(placed.images, photos, tmp_path / out, settings)
    assert (tmp_path / "stopped/alike.json").stat().st_mtime_ns == kept
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


@pytest.mark.parametrize("harm", ["[]", "{", '{"mark": "another", "alike": {}}'])
def test_a_list_that_does_not_fit_is_made_again(
    harm: str, placed: Placed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("database.db", "database.json", "alike.json"):
        shutil.copy(placed.out / name, tmp_path)
    plan = chosen_pairs.PairPlan(matching=SETTINGS.matching, known=(), alike={"a": 1})
    asked: list[str] = []

    def answer(step: str, **arguments: Any) -> dict[str, list[str]]:
        asked.append(step)
        return {"a": ["b", "c"]}

    monkeypatch.setattr(chosen_pairs, "run_step", answer)
    (tmp_path / "alike.json").write_text(harm)
    for _ in range(2):
        found = chosen_pairs.choose_pairs(tmp_path / "database.db", plan, SETTINGS, seed=0)
        assert found == [("a", "b")]
    assert asked == ["rank_alike"]


def test_a_given_vocabulary_is_used_and_told_from_its_like(placed: Placed, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sample = rng.integers(0, 120, (300, 128)).astype(np.float32)
    train(sample, 64, tmp_path / "a.bin")
    given = SETTINGS.model_copy(update={"vocabulary": str(tmp_path / "a.bin")})
    first = chosen_pairs.check_vocabulary(given)
    ranked = run_step(
        "rank_alike",
        database=placed.out / "database.db",
        vocabulary=tmp_path / "a.bin",
        folder=tmp_path,
        count=3,
        seed=0,
    )
    assert {len(others) for others in ranked.values()} == {3}
    assert not (tmp_path / "vocabulary.bin").exists()
    train(sample, 32, tmp_path / "a.bin")
    assert chosen_pairs.check_vocabulary(given) != first


@pytest.mark.parametrize("kind", ["missing", "damaged", "other"])
def test_a_vocabulary_that_does_not_fit_is_refused_before_any_work(
    kind: str, placed: Placed, tmp_path: Path
) -> None:
    path = tmp_path / "vocabulary.bin"
    if kind == "damaged":
        path.write_bytes(b"no vocabulary" * 100)
    elif kind == "other":
        sample = np.random.default_rng(0).normal(size=(300, 128)).astype(np.float32)
        index = pycolmap.VisualIndex.create(128, 64)
        options = pycolmap.VisualIndex.BuildOptions()
        options.num_visual_words = 32
        other = pycolmap.FeatureExtractorType.ALIKED_N16ROT
        index.build(options, pycolmap.FeatureDescriptorsFloat(type=other, data=sample))
        index.write(path)
    settings = SETTINGS.model_copy(update={"vocabulary": str(path)})
    with pytest.raises(InputError) as caught:
        reconstruct(placed.images, placed.photos, tmp_path / "out", settings)
    assert "sfm.vocabulary" in str(caught.value.action)
    assert not (tmp_path / "out").exists()


def test_features_with_a_verified_match_are_counted_once(placed: Placed) -> None:
    matched: set[tuple[int, int]] = set()
    with pycolmap.Database.open(placed.out / "database.db") as database:
        for pair, geometry in zip(*database.read_two_view_geometries(), strict=True):
            images = pycolmap.pair_id_to_image_pair(pair)
            for rows in geometry.inlier_matches.tolist():
                matched.update(zip(images, rows, strict=True))
    assert matched_features(placed.out / "database.db") == len(matched) > 1000


def part_of(model: Path, names: set[str]) -> Any:
    part = pycolmap.Reconstruction(model)
    for image in list(part.images.values()):
        if image.name not in names:
            part.deregister_frame(image.frame_id)
    return part


def test_models_that_share_photos_become_one(placed: Placed) -> None:
    model = placed.out / "sparse"
    whole = registered(pycolmap.Reconstruction(model))
    walk = [name for name in placed.street.names if name in whole]
    large, small = (part_of(model, set(names)) for names in (walk[:40], walk[30:]))
    turned = pycolmap.Rotation3d(np.array([0, 0.6, 0, 0.8]))
    small.transform(pycolmap.Sim3d(2.5, turned, np.array([1.0, -2.0, 3.0])))
    points = large.num_points3D()
    joined, changed = join_models({0: large, 1: small}, threads=1)
    assert (set(joined), changed) == ({0}, {0})
    found = registered(joined[0])
    assert set(found) == set(whole)
    extent = np.ptp(np.array(list(whole.values())), axis=0).max()
    assert largest_error(found, whole) < 0.01 * extent
    assert points < joined[0].num_points3D() < points + small.num_points3D()
    assert joined[0].compute_mean_reprojection_error() < 0.5


def test_models_that_share_too_little_or_disagree_stay_apart(placed: Placed) -> None:
    model = placed.out / "sparse"
    whole = registered(pycolmap.Reconstruction(model))
    walk = [name for name in placed.street.names if name in whole]
    parts = [part_of(model, set(names)) for names in (walk[:40], walk[38:])]
    joined, changed = join_models(dict(enumerate(parts)), threads=1)
    assert (set(joined), changed) == ({0, 1}, set())
    bent = part_of(model, set(walk[30:]))
    for point in list(bent.points3D.values())[::2]:
        point.xyz = point.xyz * np.array([1.0, 3.0, 1.0]) + 1.0
    rng = np.random.default_rng(0)
    for image in [one for one in bent.images.values() if one.has_pose]:
        moved = pycolmap.Rigid3d(pycolmap.Rotation3d(), rng.normal(0, 5, 3))
        bent.frame(image.frame_id).rig_from_world = moved * image.cam_from_world()
    joined, _ = join_models({0: part_of(model, set(walk[:40])), 1: bent}, threads=1)
    assert set(joined) == {0, 1}


def test_a_large_mapping_goes_on_from_its_snapshots(
    placed: Placed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(placing, "SNAPSHOTS_FROM", 2)
    monkeypatch.setattr(placing, "_SNAPSHOT_PHOTOS", 10)
    for name in ("database.db", "database.json"):
        shutil.copy(placed.out / name, tmp_path)
    snapshots = tmp_path / "snapshots"

    def taken() -> list[Path]:
        return sorted(path for path in snapshots.glob("*") if path.is_dir())

    began: list[Any] = []

    def noted(step: str, **arguments: Any) -> Any:
        began.append(arguments["begin"])
        return run_step(step, **arguments)

    monkeypatch.setattr(placing, "run_step", noted)
    given: Any = (tmp_path / "database.db", placed.images, tmp_path / "models", 70, SETTINGS)
    with pytest.raises(Interrupted):
        placing.place_cameras(
            *given, seed=0, threads=1, progress=None, cancelled=lambda: len(taken()) >= 3
        )
    kept = taken()
    (kept[-1] / "points3D.bin").write_bytes(b"torn")
    (best, *_) = placing.place_cameras(*given, seed=0, threads=1, progress=None, cancelled=None)
    assert began == [None, kept[-2]]
    undisturbed = registered(pycolmap.Reconstruction(placed.out / "sparse"))
    assert set(best["names"]) == set(undisturbed)
    model = pycolmap.Reconstruction(best["path"])
    assert (
        largest_error(registered(model), undisturbed)
        < 0.05 * np.ptp(np.array(list(undisturbed.values())), axis=0).max()
    )
    assert np.mean([point.color for point in model.points3D.values()]) > 20
    assert not snapshots.exists()


def test_snapshots_of_another_mapping_are_not_gone_on_from(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / "snapshots" / name).mkdir(parents=True)
    (tmp_path / "snapshots/mark.json").write_text("another")
    assert placing._snapshot_for(tmp_path / "snapshots", "this") is None
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["mark.json"]


def test_auto_places_thousands_at_once_and_says_so() -> None:
    def chosen(mapper: str, count: int) -> str:
        return placing.chosen_mapper(SfmSettings(mapper=mapper), count).value

    limit = placing.INCREMENTAL_LIMIT
    assert [chosen("auto", count) for count in (2, limit, limit + 1)] == [
        "incremental",
        "incremental",
        "global",
    ]
    assert (chosen("global", 2), chosen("incremental", 10**5)) == ("global", "incremental")
    assert mapping._of_mapper(SfmSettings(), limit) == ()
    assert "sfm.mapper" in mapping._of_mapper(SfmSettings(), limit + 1)[0]
