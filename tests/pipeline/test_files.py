from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest

from refdepth.errors import ResourceError
from refdepth.pipeline import files
from refdepth.pipeline.manifest import Manifest, record_files
from refdepth.pipeline.registry import STAGES
from refdepth.pipeline.workspace import STAGE_DIRS, Workspace


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})

    def write_half_then_fail() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half_then_fail()
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_the_file_appears_only_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "value.bin"
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_bytes() == b"new"


def test_a_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="gone"):
        files.write_bytes(tmp_path / "gone" / "value.bin", b"new")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("compressed", [False, True])
def test_equal_arrays_give_equal_bytes(tmp_path: Path, compressed: bool) -> None:
    arrays = {"b": np.arange(5), "a": np.ones((2, 3), np.float32)}
    files.write_arrays(tmp_path / "one.npz", arrays, compressed=compressed)
    files.write_arrays(tmp_path / "two.npz", dict(reversed(arrays.items())), compressed=compressed)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    back = files.read_arrays(tmp_path / "one.npz")
    assert back["a"].dtype == np.float32
    np.testing.assert_array_equal(back["b"], np.arange(5))


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        files.read_arrays(path)


def test_hashes_are_sha256(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert files.hash_file(path) == hashlib.sha256(b"abc").hexdigest()
    assert files.hash_json({"b": 1, "a": [1, 2]}) == files.hash_json({"a": [1, 2], "b": 1})
    assert files.hash_json({"a": 1}) != files.hash_json({"a": 2})


def test_a_full_disk_is_told_with_what_is_needed_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "refused")

    monkeypatch.setattr(files, "_sync", refuse)
    needed = r"no space left to write it \(3\.0 MiB needed, [\d.]+ MiB free\)"
    with pytest.raises(ResourceError, match=needed):
        files.write_arrays(tmp_path / "a.npz", {"depth": np.ones((3, 1 << 20), np.uint8)})
    with pytest.raises(ResourceError, match=needed):
        files.write_bytes(tmp_path / "a", bytes(3 << 20))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot be written"), (errno.EIO, "cannot")],
)
def test_what_the_file_system_refuses_is_said_with_the_path(
    tmp_path: Path, number: int, says: str
) -> None:
    path = tmp_path / "x.npz"

    def refuse() -> None:
        with files.replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError(number, "refused")

    with pytest.raises(ResourceError, match=says) as caught:
        refuse()
    assert str(path) in str(caught.value)
    assert caught.value.action
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".tmp-12-x.npz").write_bytes(b"")
    (tmp_path / ".tmp-12-folder").mkdir()
    (tmp_path / ".tmp-12-folder" / "y").write_bytes(b"")
    (tmp_path / "keep").write_bytes(b"")
    assert files.remove_temporaries(tmp_path) == 2
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "keep"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_json_that_cannot_be_read_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert files.read_json(path) is None
    assert files.read_json(tmp_path / "absent.json") is None


def test_files_below_a_folder_are_listed_with_size_and_time(tmp_path: Path) -> None:
    inside = tmp_path / "folder" / "a" / "b"
    inside.mkdir(parents=True)
    (tmp_path / "folder" / "one").write_bytes(b"1")
    (inside / "three").write_bytes(b"333")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"1")
    (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "folder" / "linked").symlink_to(inside / "three")
    (tmp_path / "folder" / "broken").symlink_to(tmp_path / "nowhere")
    found = files.list_files(tmp_path / "folder")
    assert {name: size for name, (size, _) in found.items()} == {
        "one": 1,
        "a/b/three": 3,
        "linked": 3,
    }
    assert found["a/b/three"][1] == (inside / "three").stat().st_mtime_ns
    assert files.list_files(tmp_path / "nowhere") == {}


def test_artifacts_in_a_linked_folder_count(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "part").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "stage" / "part" / "a.npz").write_bytes(b"content")
    manifest = Manifest(
        stage="stage",
        version=1,
        fingerprint="",
        settings={},
        inputs={},
        files=record_files(tmp_path / "stage", [tmp_path / "stage" / "part" / "a.npz"]),
        summary={},
        libraries={},
        seconds=0,
        peak_memory_mb=0,
    )
    assert manifest.damaged_files(tmp_path / "stage") == []
    (tmp_path / "elsewhere" / "a.npz").write_bytes(b"changed")
    assert manifest.damaged_files(tmp_path / "stage") == ["part/a.npz"]


def test_cleaning_a_workspace_leaves_the_folders_of_others_alone(workspace: Workspace) -> None:
    theirs = [workspace.root / "photos" / name for name in (".tmp-notes", ".a.jpg.partial")]
    ours = [
        workspace.root / place
        for place in (".tmp-1-report.html", "refine/second/.tmp-1-a.npz", "export/.tmp-1-cloud")
    ]
    ours.append(workspace.root / "prepare" / "images" / ".a.jpg.partial")
    for path in (*theirs, *ours):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert tuple(stage.name for stage in STAGES) == STAGE_DIRS
    workspace.clean()
    assert [path for path in (*theirs, *ours) if path.exists()] == theirs
