"""Views by the names that their photos have outside of a workspace."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exact_room import ExactRoom

from refdepth.errors import InputError
from refdepth.ingest import NameTable, PreparedPhoto
from refdepth.pipeline.files import write_json
from refdepth.pipeline.views import (
    errors_by_photo,
    forget_scene,
    load_scene,
    photo_names,
    select_views,
)
from refdepth.pipeline.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One that has read `a/x.jpg`, a turned photo."""
    size = {"width": 60, "height": 40, "stored_width": 40, "stored_height": 60}
    row = PreparedPhoto(name="a_x.png", original="a/x.jpg", orientation=6, **size)
    (tmp_path / "prepare").mkdir()
    write_json(tmp_path / "prepare/table.json", {"photos": [row.to_dict()], "skipped": []})
    return Workspace(tmp_path)


def test_an_error_about_a_view_names_the_photo(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"^a/x\.jpg: is odd"), errors_by_photo(workspace):
        raise InputError("is odd.", subject="a_x.png")
    with pytest.raises(InputError, match=r"^b\.jpg: is odd"), errors_by_photo(workspace):
        raise InputError("is odd.", subject="b.jpg")


def test_views_keep_their_names_where_the_table_is_gone(workspace: Workspace) -> None:
    assert photo_names(workspace).own("a_x.png") == "a/x.jpg"
    (workspace.root / "prepare/table.json").unlink()
    assert photo_names(workspace).own("a_x.png") == "a_x.png"


def test_views_are_chosen_by_their_photos_names(room: ExactRoom) -> None:
    first, second, *others = room.scene.names
    names = NameTable({first: "a/x.jpg", second: "b/x.jpg"} | {name: name for name in others})
    assert select_views(room.scene, ["a/*"], names) == (first,)
    assert select_views(room.scene, ["x.jpg"], names) == tuple(sorted((first, second)))
    assert select_views(room.scene, [second], names) == (second,)
    assert select_views(room.scene, [], names) == room.scene.names
    with pytest.raises(InputError, match=r"c/\*: matches none.*named like a/x\.jpg"):
        select_views(room.scene, ["c/*"], names)


def test_a_scene_is_read_once_and_again_when_its_files_have_changed(finished: Workspace) -> None:
    first = load_scene(finished)
    assert load_scene(finished) is first
    points = finished.root / "sfm" / "undistorted" / "sparse" / "points3D.bin"
    status = points.stat()
    os.utime(points, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    second = load_scene(finished)
    assert second is not first
    assert second.names == first.names
    assert load_scene(finished) is second
    (finished.root / "sfm" / "undistorted" / "masks").mkdir()
    assert load_scene(finished) is not second


def test_what_was_read_of_a_model_is_left_for_other_processes(finished: Workspace) -> None:
    first = load_scene(finished)
    command = [sys.executable, "-c", READ_WITHOUT_THE_MODEL, str(finished.root)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [str(len(first.points)), *first.names]


READ_WITHOUT_THE_MODEL = """
import sys
from pathlib import Path
from refdepth.pipeline.views import load_scene
from refdepth.pipeline.workspace import Workspace
scene = load_scene(Workspace(Path(sys.argv[1])))
assert "pycolmap" not in sys.modules
print(len(scene.points), *scene.names)
"""


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_a_damaged_copy_of_the_model_is_made_again(finished: Workspace, damage: str) -> None:
    first = load_scene(finished)
    xyz = first.points.xyz.copy()
    file = finished.root / "sfm" / "scene" / "xyz.npy"
    content = bytearray(file.read_bytes())
    file.unlink()  # other processes may have it open
    if damage != "gone":
        content[-3] ^= 1
        file.write_bytes(content if damage == "changed" else content[:-8])
    forget_scene()
    np.testing.assert_array_equal(load_scene(finished).points.xyz, xyz)
    assert len(file.read_bytes()) == len(content)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    names = load_scene(finished).names
    shutil.rmtree(finished.root / "sfm" / "scene")
    monkeypatch.setattr("refdepth.pipeline.views.write_scene_arrays", full)
    forget_scene()
    assert load_scene(finished).names == names
    assert not [*(finished.root / "sfm").glob("*scene*")]


def test_what_a_killed_process_has_left_of_it_goes(finished: Workspace) -> None:
    load_scene(finished)
    scene = finished.root / "sfm" / "scene"
    scene.rename(scene.with_name(".tmp-12345678-scene"))
    forget_scene()
    load_scene(finished)
    assert [path.name for path in scene.parent.glob("*scene*")] == ["scene"]
