"""Artifacts harmed after they were made: noticed, said, and made again from that point only."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_runs import STAGES, Photos, Runner, difference, finished, made_again, result

from refdepth.pipeline.files import hash_json, read_sealed, write_sealed

ARTIFACTS = [
    ("prepare", "prepare/images/view_001.png"),
    ("prepare", "prepare/table.json"),
    ("sfm", "sfm/undistorted/sparse/points3D.bin"),
    ("sfm", "sfm/undistorted/images/view_002.png"),
    ("sfm", "sfm/sparse/cameras.bin"),
    ("depth", "depth/view_001.png.npz"),
    ("depth", "depth/view_001.png.json"),
    ("scale", "scale/view_003.png.json"),
    ("refine", "refine/first/view_000.png.npz"),
    ("refine", "refine/view_002.png.npz"),
    ("refine", "refine/view_002.png.json"),
    ("fuse", "fuse/cloud.ply"),
    ("fuse", "fuse/view_000.png.npz"),
]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_other(path: Path) -> None:
    shutil.copyfile(next(p for p in path.parent.iterdir() if p != path and p.is_file()), path)


HARM = [flip, truncate, remove, replace_by_folder, replace_by_other]
PAIRS = [(*artifact, HARM[n % len(HARM)]) for n, artifact in enumerate(ARTIFACTS)] + [
    pytest.param(*artifact, harm, marks=pytest.mark.faults)
    for n, artifact in enumerate(ARTIFACTS)
    for m, harm in enumerate(HARM)
    if m != n % len(HARM)
]


@pytest.mark.parametrize(("stage", "name", "harm"), PAIRS)
def test_a_harmed_artifact_is_said_and_made_again_from_there(
    stage: str,
    name: str,
    harm: Callable[[Path], None],
    runner: Runner,
    photos: Photos,
    reference: Path,
    workspace: Path,
    survived: Counter[str],
) -> None:
    command = photos.command(workspace)
    assert runner.run(command).code == 0  # as moved here
    harm(workspace / name)
    ended = runner.run(["status", str(workspace), "--json"])
    states = {row["stage"]: row for row in json.loads(ended.said)["stages"]}
    assert states[stage]["state"] == "damaged"
    assert Path(name).name in states[stage]["why"]
    ended = runner.run(command)
    assert ended.code == 0, ended.said
    assert f"{stage}: started ({name.removeprefix(stage + '/')} is gone or changed" in ended.said
    for other in set(STAGES) - {stage}:
        assert f"{other}: unchanged" in ended.said
    assert difference(result(workspace), result(reference)) == []
    survived["harmed artifacts"] += 1


def test_verify_finds_a_flipped_bit_under_the_old_time(
    runner: Runner, workspace: Path, survived: Counter[str]
) -> None:
    path = workspace / "refine" / "view_001.png.npz"
    time = path.stat().st_mtime_ns
    flip(path)
    os.utime(path, ns=(time, time))
    assert "view_001" not in runner.run(["status", str(workspace)]).said
    ended = runner.run(["status", str(workspace), "--verify", "--json"])
    states = {row["stage"]: row["state"] for row in json.loads(ended.said)["stages"]}
    assert states["refine"] == "damaged"
    assert [states[stage] for stage in STAGES[:4]] == ["done"] * 4
    survived["harmed artifacts"] += 1


@pytest.mark.parametrize(
    "edit",
    [
        {"version": 0},
        {"fingerprint": "0" * 64},
        {"files": {}},
        {"files": {"../../../etc/passwd": {"size": 1, "mtime_ns": 1, "sha256": ""}}},
        {"summary": []},
        {"unknown": 1},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edited_manifest_is_not_believed(
    edit: dict[str, object],
    runner: Runner,
    photos: Photos,
    reference: Path,
    workspace: Path,
    survived: Counter[str],
) -> None:
    path = workspace / "scale" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **edit}))
    ended = runner.run(photos.command(workspace))
    assert ended.code == 0, ended.said
    assert "scale: started (" in ended.said
    assert difference(result(workspace), result(reference)) == []
    survived["edited manifests"] += 1


def as_of_an_older_version(folder: Path) -> None:
    """Makes a stage's manifest and items what the version before would have left."""
    manifest = read_sealed(folder / "manifest.json")
    assert manifest is not None
    former, older = manifest["fingerprint"], hash_json("older")
    for path in folder.rglob("*.json"):
        stored = read_sealed(path)
        if stored is not None and stored.get("fingerprint") == former:
            stored["fingerprint"] = older
            if path.name == "manifest.json":
                stored["version"] -= 1
            write_sealed(path, stored)


@pytest.mark.parametrize(
    "stage",
    [s if s == "refine" else pytest.param(s, marks=pytest.mark.faults) for s in STAGES],
)
def test_artifacts_of_an_older_stage_version_are_made_again(
    stage: str,
    runner: Runner,
    photos: Photos,
    reference: Path,
    workspace: Path,
    survived: Counter[str],
) -> None:
    command = photos.command(workspace)
    assert runner.run(command).code == 0  # as moved here
    as_of_an_older_version(workspace / stage)
    before = finished(workspace)
    ended = runner.run(command)
    assert ended.code == 0, ended.said
    assert f"{stage}: started (made by another version of the stage)" in ended.said
    for other in set(STAGES) - {stage}:
        assert f"{other}: unchanged" in ended.said
    again = {
        Path(path).relative_to(workspace).parts[0]
        for path in made_again(before, finished(workspace))
    }
    assert again == {stage}
    assert difference(result(workspace), result(reference)) == []
    survived["older artifacts"] += 1


@pytest.mark.parametrize("content", ["", "[]", "{", '{"format": 7}', '{"inputs": {"images": 3}}'])
def test_an_edited_request_is_said_by_status_and_replaced_by_a_run(
    content: str,
    runner: Runner,
    photos: Photos,
    workspace: Path,
    reference: Path,
    survived: Counter[str],
) -> None:
    (workspace / "refdepth.json").write_text(content)
    ended = runner.run(["status", str(workspace)])
    assert ended.code == 3, ended.said
    assert "refdepth.json: cannot be understood" in ended.said
    assert runner.run(photos.command(workspace)).code == 0
    survived["edited manifests"] += 1
