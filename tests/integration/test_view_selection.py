"""Views refined in several selections: each once, the same bytes as all at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Photos, finished, made_again, make_photos

from refdepth.cli.main import run
from refdepth.pipeline.files import read_arrays
from refdepth.pipeline.items import ItemStore
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace

A = ("--views", "view_000*")
B = ("--views", "view_001", "--views", "view_002*")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Photos:
    return make_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def all_at_once(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("all") / "out"
    assert run(photos.command(out)) == 0
    return out


def manifest(out: Path, stage: str = "refine") -> dict[str, Any]:
    return dict(json.loads((out / stage / "manifest.json").read_text()))


def views(out: Path) -> list[str]:
    return [name.removesuffix(".png") for name in Results(Workspace(out)).views("refine")]


def depth_bytes(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted((out / "refine").rglob("*.npz"))
    }


def items(out: Path) -> dict[Path, tuple[int, int]]:
    """Finished items and what stages before `fuse` have left, each with its time and inode; not the
    final maps, whose confidence is that of the selection."""
    return {
        path: mark
        for path, mark in finished(out).items()
        if path.name != "manifest.json"
        and path.relative_to(out).parts[0] != "fuse"
        and path.parent != out / "refine"
    }


def test_no_view_is_refined_twice_and_the_end_is_that_of_one_run_over_all(
    photos: Photos, all_at_once: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made: list[int] = []
    clouds: list[bytes] = []
    before: dict[Path, tuple[int, int]] = {}
    depth: dict[str, bytes] = {}
    for options, shown in ((A, 1), (B, 2), ((), 4), (A, 1)):
        assert run(photos.command(out, *options)) == 0
        after = items(out)
        assert made_again(before, after) == []
        made.append(len(list((out / "refine").glob("*.npz"))))
        found = {p.name: read_arrays(p)["depth"].tobytes() for p in (out / "refine").glob("*.npz")}
        assert found | depth == found
        depth = found
        assert len(views(out)) == shown
        clouds.append((out / "fuse" / "cloud.ply").read_bytes())
        before = after
        if options == ():
            assert depth_bytes(out) == depth_bytes(all_at_once)
            assert clouds[-1] == (all_at_once / "fuse" / "cloud.ply").read_bytes()
    assert made == [1, 3, 4, 4]
    assert clouds[0] == clouds[3]
    assert len(set(clouds)) == 3


def test_the_manifest_names_the_selection_and_status_notices_another(
    photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(photos.command(out, *A)) == 0
    assert run(photos.command(out, *B)) == 0
    assert views(out) == ["view_001", "view_002"]
    assert "view_000.png.npz" not in manifest(out)["files"]
    assert (out / "refine" / "view_000.png.npz").is_file()
    capsys.readouterr()
    assert run(photos.command(out, *B[2:], *B[:2], "--dry-run")) == 0
    assert capsys.readouterr().out.count("reuse") == 6
    assert run(photos.command(out, *A, "--dry-run")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "refine run: views has changed fuse run: refine has changed" in said
    assert run(["report", str(out)]) == 0


def test_views_of_another_selection_under_other_settings_do_not_stay(
    photos: Photos, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(photos.command(out, *A)) == 0
    assert run(photos.command(out, *B, "--set", "runtime.seed=7")) == 0
    assert sorted(path.name for path in (out / "refine").glob("*.npz")) == [
        "view_001.png.npz",
        "view_002.png.npz",
    ]


def test_views_made_on_another_device_are_kept_and_shown(
    photos: Photos, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(photos.command(out)) == 0
    name = "view_002.png"
    summary = manifest(out)["summary"]
    assert summary["made_on"] == {"cpu": 4}
    assert summary["headline"] == "4 views refined"
    stored = json.loads((out / "refine" / f"{name}.json").read_text())
    assert (stored["record"]["device"], stored["record"]["renderer"]) == ("cpu", "cpu")
    prior = json.loads((out / "depth" / f"{name}.json").read_text())
    assert prior["record"]["device"] == "cpu"

    for stage, device in (
        ("refine", {"device": "cuda", "renderer": "nvdiffrast"}),
        ("depth", {"device": "cuda"}),
    ):
        stored = json.loads((out / stage / f"{name}.json").read_text())
        store = ItemStore(out / stage, stored["fingerprint"])
        store.write(name, store.arrays(name), {**stored["record"], **device})
        (out / stage.partition("/")[0] / "manifest.json").unlink()
    before = items(out)
    assert run(photos.command(out)) == 0
    assert made_again(before, items(out)) == []
    assert manifest(out)["summary"]["made_on"] == {"cpu": 3, "cuda/nvdiffrast": 1}
    assert manifest(out, "depth")["summary"]["made_on"] == {"cpu": 3, "cuda": 1}
    capsys.readouterr()
    assert run(["status", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "4 views refined, 1 of them on cuda/nvdiffrast" in said
    assert "4 priors from the plane sweep, 1 of them on cuda" in said
    page = (out / "report.html").read_text()
    assert "Views refined on different devices (3 on cpu, 1 on cuda/nvdiffrast)." in page
    assert "Priors made on different devices (3 on cpu, 1 on cuda)." in page
