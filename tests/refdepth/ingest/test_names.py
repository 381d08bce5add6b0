"""The one table of names: which file belongs to a photo, and which photos a pattern means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from refdepth.errors import InputError
from refdepth.ingest import NameTable, PreparedPhoto, safe_stems


def table(*originals: str) -> NameTable:
    """Photos that were all made PNG, as turned ones are."""
    stems = safe_stems(originals)
    size = {"width": 60, "height": 40, "stored_width": 60, "stored_height": 40}
    return NameTable.of(
        PreparedPhoto(name=f"{stems[original]}.png", original=original, **size)
        for original in originals
    )


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def found(
    names: NameTable, folder: Path, suffixes: Sequence[str] = (".png",), *, anywhere: bool = False
) -> dict[str, str]:
    """Files, relative to the folder, by the photo's own name."""
    files = names.files(folder, suffixes, anywhere=anywhere).files
    return {names.own(name): str(path.relative_to(folder)) for name, path in files.items()}


def test_both_naming_ways_are_found_and_the_exact_one_wins(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.jpg.png", "sub/b.png")
    names = table("a.jpg", "sub/b.jpg", "c.jpg")
    assert found(names, tmp_path) == {"a.jpg": "a.jpg.png", "sub/b.jpg": "sub/b.png"}


def test_a_flat_folder_serves_sub_folders_unless_names_clash(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    names = table("x/a.jpg", "x/b.jpg", "y/b.jpg")
    assert found(names, tmp_path) == {"x/a.jpg": "a.png"}
    touch(tmp_path, "b.png")
    with pytest.raises(InputError, match=r"b\.png.*any of the photos x/b\.jpg, y/b\.jpg.*x/b"):
        names.files(tmp_path, [".png"])
    touch(tmp_path, "x/b.png", "y/b.jpg.png")  # now nobody needs the doubtful one
    assert found(names, tmp_path)["x/b.jpg"] == "x/b.png"
    assert found(names, tmp_path)["y/b.jpg"] == "y/b.jpg.png"


@pytest.mark.parametrize("suffix", [".png", ".npy", ".geometric.bin"])
def test_photos_that_differ_by_folder_or_ending_get_their_own_files(
    tmp_path: Path, suffix: str
) -> None:
    photos = ["x.jpg", "x.png", "a/x.jpg", "b/x.jpg", "b_x.jpg"]
    touch(tmp_path, *(photo + suffix for photo in photos))
    expected = {photo: photo + suffix for photo in photos}
    assert found(table(*photos), tmp_path, [suffix]) == expected


def test_a_file_without_ending_is_not_given_to_two_photos(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(InputError, match=r"any of the photos a\.jpg, a\.tif"):
        table("a.jpg", "a.tif").files(tmp_path, [".png"])


def test_the_file_of_a_photo_that_is_not_there_is_given_to_no_other(tmp_path: Path) -> None:
    touch(tmp_path, "gone/x.jpg.png", "x.tif.png", "old/x.png")
    named = table("x.jpg").files(tmp_path, [".png"])
    assert dict(named.files) == {}
    assert named.strangers == ("gone/x.jpg.png", "old/x.png", "x.tif.png")


def test_files_may_lie_deeper_only_where_asked_and_not_in_a_folder_of_photos(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "depth/x.npy", "depth/a/x.npy", "a/y.npy")
    names = table("x.jpg", "a/x.jpg", "y.jpg")
    assert found(names, tmp_path, [".npy"]) == {}
    assert found(names, tmp_path, [".npy"], anywhere=True) == {
        "x.jpg": "depth/x.npy",
        "a/x.jpg": "depth/a/x.npy",
    }
    touch(tmp_path, "other/x.npy")
    with pytest.raises(InputError, match=r"x\.jpg as much as"):
        names.files(tmp_path, [".npy"], anywhere=True)


def test_the_prepared_name_is_understood_too(tmp_path: Path) -> None:
    touch(tmp_path, "a_x.png.npy", "clip.mp4_000012.npy", "clip.npy")
    names = NameTable({"a_x.png": "a/x.jpg", "clip.mp4_000012.png": "clip.mp4#000012"})
    assert found(names, tmp_path, [".npy"]) == {
        "a/x.jpg": "a_x.png.npy",
        "clip.mp4#000012": "clip.mp4_000012.npy",
    }


def test_links_that_the_user_placed_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.npy", "elsewhere/sub/b.npy")
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "a.npy").symlink_to(tmp_path / "elsewhere/a.npy")
    (folder / "sub").symlink_to(tmp_path / "elsewhere/sub")
    (folder / "round").symlink_to(folder)
    (folder / "c.npy").symlink_to(tmp_path / "nowhere.npy")
    expected = {"a.jpg": "a.npy", "sub/b.jpg": "sub/b.npy"}
    assert found(table("a.jpg", "sub/b.jpg", "c.jpg"), folder, [".npy"]) == expected


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "sub/../../a.jpg", "..\\a.jpg", ""])
def test_names_do_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "a.png", "given/b.png")
    with pytest.raises(InputError, match="leads out of the folder"):
        NameTable({"a.jpg": name}).files(tmp_path / "given", [".png"])


def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        table("a.jpg").files(tmp_path / "nowhere", [".png"])


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("a/x.jpg", {"a/x.jpg"}),
        ("a/*", {"a/x.jpg", "a/y[1].jpg"}),
        ("a_x*", {"a/x.jpg"}),
        ("x.jpg", {"a/x.jpg", "b/x.jpg"}),
        ("x", {"a/x.jpg", "b/x.jpg"}),
        ("*/x", {"a/x.jpg", "b/x.jpg"}),
        ("y[1].jpg", {"a/y[1].jpg"}),
        ("z*", set()),
    ],
)
def test_patterns_mean_photos_by_their_own_names(pattern: str, meant: set[str]) -> None:
    names = table("a/x.jpg", "b/x.jpg", "a/y[1].jpg")
    assert set(map(names.own, names.select(pattern))) == meant
