"""`refdepth scale-to` and what shows its result, as a user meets them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom, make_exact_room, make_workspace
from measured_room import complete

from refdepth.cli.exit_codes import ExitCode
from refdepth.cli.main import run
from refdepth.types.camera import invert_pose, transform


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExactRoom]:
    folder = tmp_path_factory.mktemp("measured")
    room = make_exact_room(folder / "photos")
    root = make_workspace(folder / "out", room)
    complete(root, room)
    return root, room


@pytest.fixture
def out(made: tuple[Path, ExactRoom], tmp_path: Path) -> str:
    return shutil.copytree(made[0], tmp_path / "out")


@pytest.fixture
def known(made: tuple[Path, ExactRoom]) -> str:
    """Two pixels and how far apart they are."""
    room = made[1]
    view = room.scene.views[2]
    depth = room.depth[view.name]
    ends = [
        transform(
            invert_pose(view.cam_from_world),
            view.camera.unproject(depth[y, x], [x + 0.5, y + 0.5]),
        )
        for x, y in ((30, 40), (120, 100))
    ]
    length = sum((ends[0] - ends[1]) ** 2) ** 0.5
    return f"view_002.JPG:30.5,40.5 120.5,100.5 {100 * length}cm"


def test_a_distance_is_measured_told_and_exported(
    out: str, known: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(out), "--to", "cloud", "--metres", "-q"]) == ExitCode.INPUT
    assert "refdepth scale-to" in capsys.readouterr().err
    assert run(["scale-to", str(out), "--distance", known, "--quiet"]) == ExitCode.DONE
    said = capsys.readouterr().out
    assert "by 1 distance; up guessed from the cameras" in said
    assert "view_002.JPG:30.5,40.5 to" in said
    assert run(["status", str(out)]) == ExitCode.DONE
    assert "by 1 distance;" in capsys.readouterr().out
    assert run(["status", str(out), "--json"]) == ExitCode.DONE
    scale = json.loads(capsys.readouterr().out)["scale"]
    assert scale["metres_per_unit"] == pytest.approx(1, abs=0.005)  # the room is in metres
    assert scale["stale"] is False
    assert run(["export", str(out), "--to", "cloud", "--metres", "-q"]) == ExitCode.DONE
    told = json.loads((Path(out) / "export" / "cloud" / "refdepth-export.json").read_text())
    assert told["world"]["axes"] == "z up, guessed from how the cameras were held"
    down = np.array(told["world"]["world_from_scene"])[:3, 1]  # the room's y points down
    assert down[2] / np.linalg.norm(down) < -0.95


def test_as_json(out: str, known: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scale-to", str(out), "--distance", known, "--json"]) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["used"] == ["distances"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--distance", "A.jpg 1m"], ExitCode.USAGE, "with the quotes"),
        (["--distance", "view_001.JPG:3,4 5,6 1yd"], ExitCode.USAGE, "m, cm, mm, ft, in"),
        (["--tag-size", "16"], ExitCode.USAGE, "16cm"),
        (["--distance", "x.jpg:3,4 5,6 1m"], ExitCode.INPUT, "none of the photos"),
        (["--distance", "view_001.JPG:3,4 500,6 1m"], ExitCode.INPUT, "160x120"),
        (["--gps"], ExitCode.INPUT, "0 placed photos have a GPS position"),
        ([], ExitCode.INPUT, "nothing says how long a unit is"),
    ],
)
def test_what_cannot_be_measured(
    out: str,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: ExitCode,
    words: str,
) -> None:
    assert run(["scale-to", str(out), *options, "--quiet"]) == code
    assert words in capsys.readouterr().err
    assert not (Path(out) / "scale.json").exists()


def test_no_tags_in_the_photos_and_no_opencv(
    out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("cv2")
    command = ["scale-to", str(out), "--tag-size", "16cm", "--quiet", "--workers", "1"]
    assert run(command) == ExitCode.INPUT
    assert "no tag was found" in capsys.readouterr().err
    assert run([*command, "--tag-family", "9x9"]) == ExitCode.USAGE
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert run(command) == ExitCode.UNAVAILABLE
    assert "refdepth[tags]" in capsys.readouterr().err


def test_reconstruct_refuses_early_what_it_could_not_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reconstruct", str(tmp_path), str(tmp_path / "out")]
    assert run([*command, "--distance", "A.jpg 1m"]) == ExitCode.USAGE
    assert run([*command, "--metres"]) == ExitCode.USAGE
    assert run([*command, "--metres", "--export", "graphdeco"]) == ExitCode.USAGE
    assert run([*command, "--gps", "--until", "sfm"]) == ExitCode.USAGE
    assert "scale-to" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
