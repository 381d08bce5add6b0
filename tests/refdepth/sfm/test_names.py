"""Names in foreign files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdepth.errors import InputError
from refdepth.ingest import PreparedPhoto
from refdepth.ingest.names import NameTable, checked_name


def photo(name: str, original: str, sequence: str = "") -> PreparedPhoto:
    size = {"width": 60, "height": 40, "stored_width": 60, "stored_height": 40}
    return PreparedPhoto(name=name, original=original, sequence=sequence, **size)


PHOTOS = [
    photo("a.jpg", "a.jpg"),
    photo("sub_b.png", "sub/b.heic"),
    photo("x_c.jpg", "x/c.jpg"),
    photo("y_c.jpg", "y/c.jpg"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("a.jpg", "a.jpg"),
        ("./images/a.jpg", "a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("train/a", "a.jpg"),
        ("a.png", "a.jpg"),
        ("sub/b.heic", "sub_b.png"),
        ("sub_b.png", "sub_b.png"),
        ("images/sub/b.jpg", "sub_b.png"),
        ("images/x/c.jpg", "x_c.jpg"),
        ("y/c.jpg", "y_c.jpg"),
        ("c.jpg", None),
        ("z/c.jpg", None),
        ("other.jpg", None),
    ],
)
def test_a_name_means_the_photo_a_person_would_say(name: str, meant: str | None) -> None:
    assert NameTable.of(PHOTOS).match([name]).get(name) == meant


def test_two_names_for_one_photo_are_refused() -> None:
    with pytest.raises(InputError, match="same photo"):
        NameTable.of(PHOTOS).match(["a.jpg", "images/a.jpg"])


def test_a_name_that_several_photos_have_is_not_given_to_one_of_another_ending() -> None:
    table = NameTable.of([*PHOTOS, photo("c.png", "c.png")])
    assert table.meant("images/c.jpg") is None
    assert table.meant("images/c.png") == "c.png"


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../a.jpg", "images/../../a.jpg", "C:\\a.jpg", "..\\a.jpg", "a\0b"]
)
def test_names_that_lead_out_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        checked_name(name)


@given(st.text(max_size=60))
def test_a_name_that_is_let_through_stays_inside(name: str) -> None:
    try:
        path = checked_name(name)
    except InputError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
