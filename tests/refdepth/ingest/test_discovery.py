"""What is found in a folder, and under which names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdepth.errors import InputError
from refdepth.ingest import find_photos, safe_stems


def touch(*paths: Path, content: bytes = b"x") -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def originals(folder: Path, **options: Path) -> list[str]:
    return [found.original for found in find_photos(folder, **options).candidates]


def test_photos_come_in_natural_order_with_their_sub_folders(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("IMG_10.jpg", "IMG_2.JPG", "sub/dir/a.png", "b.tif")))
    assert originals(tmp_path) == ["IMG_2.JPG", "IMG_10.jpg", "b.tif", "sub/dir/a.png"]


def test_other_files_are_listed_with_a_reason_and_hidden_ones_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "notes.txt", tmp_path / "a.nef", tmp_path / ".hidden.jpg")
    touch(tmp_path / ".thumbnails/b.jpg", tmp_path / "good.jpg")
    found = find_photos(tmp_path)
    assert [one.original for one in found.candidates] == ["good.jpg"]
    assert {one.original: one.reason.split(";")[0] for one in found.skipped} == {
        "a.nef": "raw camera file",
        "notes.txt": "not a photo",
    }


def test_a_jpeg_without_suffix_is_a_photo(tmp_path: Path) -> None:
    touch(tmp_path / "IMG_0001", content=b"\xff\xd8\xff\xe0 and so on")
    assert originals(tmp_path) == ["IMG_0001"]


def test_link_loops_end_and_broken_links_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path / "a/one.jpg")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = find_photos(tmp_path)
    assert [one.original for one in found.candidates] == ["a/one.jpg"]
    assert {one.original for one in found.skipped} == {"gone.jpg", "self"}


def test_the_output_folder_inside_the_input_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "out/prepare/images/a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "out")
    assert originals(tmp_path, exclude=[tmp_path / "out"]) == ["a.jpg"]


def test_very_deep_folders_are_followed(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(900):
        deep = deep / "d"
        deep.mkdir()
    touch(deep / "a.jpg")
    assert len(originals(tmp_path)) == 1


def test_one_video_file_may_be_given_instead_of_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "clip.MP4", tmp_path / "notes.txt")
    (found,) = find_photos(tmp_path / "clip.MP4").candidates
    assert (found.kind, found.original) == ("video", "clip.MP4")
    with pytest.raises(InputError, match="not a photo"):
        find_photos(tmp_path / "notes.txt")


def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder") as caught:
        find_photos(tmp_path / "nowhere")
    assert caught.value.subject == str(tmp_path / "nowhere")


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(path)).write_bytes(b"x")
    assert originals(tmp_path) == ["caf\\xe9.jpg"]


def test_stems_keep_what_is_readable() -> None:
    stems = safe_stems(["IMG_0001.JPG", "sub/dir/a.jpg", "Küche 1.png", "-rf.jpg", "a\nb.jpg"])
    assert list(stems.values()) == ["IMG_0001", "sub_dir_a", "Kuche_1", "rf", "a_b"]


def test_photos_that_differ_only_in_suffix_or_case_get_different_stems() -> None:
    stems = safe_stems(["a.jpg", "a.png", "A.jpg", "b.jpg"])
    assert len({stem.casefold() for stem in stems.values()}) == 4
    assert stems["b.jpg"] == "b"
    assert all(stem[:2] in ("a-", "A-") for name, stem in stems.items() if name != "b.jpg")


@given(st.lists(st.text(min_size=1, max_size=300), min_size=1, max_size=12, unique=True))
def test_stems_are_unique_short_and_safe_for_any_names(names: list[str]) -> None:
    stems = list(safe_stems(names).values())
    assert len({stem.casefold() for stem in stems}) == len(names)
    for stem in stems:
        assert stem.isascii()
        assert 0 < len(stem) < 120
        assert stem[0] not in "-."
        assert not set(stem) & set("/\\ \n\0:")
