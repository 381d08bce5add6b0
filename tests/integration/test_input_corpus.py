"""What people give, and what becomes of it: each case ends in success with listed skips, or in one
clear error; nothing is written outside the workspace."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_inputs import (
    HEIGHT,
    WIDTH,
    animated,
    as_mode,
    cut,
    deep_png,
    focal,
    heic,
    holding,
    links,
    mixed_sizes,
    named,
    no_text,
    pixels,
    png,
    same_pixels,
    save,
    turned,
    twins,
    unreadable,
    video_content,
)
from PIL import Image

from refdepth.errors import InputError, RefdepthError, StageError
from refdepth.ingest import PrepareSettings
from refdepth.pipeline.config import RunConfig, RunInputs, RunRequest
from refdepth.pipeline.engine import Engine
from refdepth.pipeline.workspace import Workspace


@dataclass
class Case:
    """Something added to two good photos, and what must come of it."""

    make: Callable[[Path], None]
    read: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Originals that are used besides the good ones, with their upright width and height."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Originals that are listed as skipped, with a word of the reason."""
    warned: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


UPRIGHT, TURNED = (WIDTH, HEIGHT), (HEIGHT, WIDTH)
LONG = "x" * 246 + ".jpg"
CASES: dict[str, Case] = {
    "nothing else": Case(lambda folder: None),
    "empty jpeg": Case(holding("odd.jpg", b""), skipped={"odd.jpg": "empty"}),
    "jpeg cut early": Case(
        cut("odd.jpg", 0.2), skipped={"odd.jpg": "cut short|not a picture|cannot"}
    ),
    "jpeg cut late": Case(cut("odd.jpg", 0.9), skipped={"odd.jpg": "cut short"}),
    "png cut": Case(cut("odd.png", 0.7), skipped={"odd.png": "cut short"}),
    "webp cut": Case(cut("odd.webp", 0.7), skipped={"odd.webp": "cut short|not a picture|cannot"}),
    "tiff cut": Case(cut("odd.tif", 0.7), skipped={"odd.tif": "cut short|not a picture|cannot"}),
    "text as jpeg": Case(holding("odd.jpg", b"hello" * 99), skipped={"odd.jpg": "not a picture"}),
    "video as jpeg": Case(
        holding("odd.jpg", video_content()), skipped={"odd.jpg": "not a picture|cannot"}
    ),
    "damaged video": Case(
        holding("odd.mp4", video_content()), skipped={"odd.mp4": "not a video|no frame|no video"}
    ),
    "notes": Case(holding("notes.txt", b"hello"), skipped={"notes.txt": "not a photo"}),
    "raw": Case(holding("odd.NEF", b"II*\0"), skipped={"odd.NEF": "develop"}),
    "hidden": Case(holding(".hidden.jpg", b"x")),
    "hidden folder": Case(holding(".cache/a.jpg", b"x")),
    "empty folder": Case(lambda folder: (folder / "sub").mkdir()),
    "png bomb": Case(
        holding("odd.png", png(60_000, 60_000, 1, 0, b"\0")), skipped={"odd.png": "refused|limit"}
    ),
    "over the limit": Case(
        lambda folder: save(folder / "odd.png", 7, (400, 300)),
        skipped={"odd.png": "limit of 0.1 megapixels"},
        settings={"max_megapixels": 0.1},
    ),
    "tiny": Case(lambda folder: save(folder / "odd.png", 7, (10, 10)), skipped={"odd.png": "few"}),
    "16-bit colour": Case(holding("odd.png", deep_png()), read={"odd.png": UPRIGHT}),
    "16-bit grey": Case(
        lambda folder: Image.fromarray(pixels(7)[..., 0].astype(np.uint16) * 257).save(
            folder / "odd.tif"
        ),
        read={"odd.tif": UPRIGHT},
    ),
    "float": Case(
        lambda folder: Image.fromarray(np.ones((64, 64), np.float32)).save(folder / "odd.tif"),
        skipped={"odd.tif": "floating-point"},
    ),
    "grey jpeg": Case(as_mode("odd.jpg", "L"), read={"odd.jpg": UPRIGHT}),
    "cmyk jpeg": Case(as_mode("odd.jpg", "CMYK"), read={"odd.jpg": UPRIGHT}),
    "rgba png": Case(as_mode("odd.png", "RGBA"), read={"odd.png": UPRIGHT}),
    "palette png": Case(as_mode("odd.png", "P"), read={"odd.png": UPRIGHT}),
    "grey with alpha": Case(as_mode("odd.png", "LA"), read={"odd.png": UPRIGHT}),
    "black and white": Case(as_mode("odd.png", "1"), read={"odd.png": UPRIGHT}),
    "webp": Case(as_mode("odd.webp", "RGB"), read={"odd.webp": UPRIGHT}),
    "tiff": Case(as_mode("odd.tiff", "RGB"), read={"odd.tiff": UPRIGHT}),
    "heic": Case(heic, read={"odd.heic": UPRIGHT}),
    **{
        f"orientation {value}": Case(
            turned(value), read={"odd.jpg": TURNED if value >= 5 else UPRIGHT}
        )
        for value in range(1, 9)
    },
    "orientation 9": Case(turned(9), read={"odd.jpg": UPRIGHT}),
    "focal of a telescope": Case(
        focal(65535), read={"odd.jpg": UPRIGHT}, warned="impossible and is not used"
    ),
    "focal zero": Case(focal(0), read={"odd.jpg": UPRIGHT}),
    "gif": Case(animated("odd.gif"), read={"odd.gif": UPRIGHT}, warned="holds 3 pictures"),
    "apng": Case(animated("odd.png"), read={"odd.png": UPRIGHT}, warned="holds 3 pictures"),
    "animated webp": Case(
        animated("odd.webp", lossless=True), read={"odd.webp": UPRIGHT}, warned="holds 3 pictures"
    ),
    "multi-page tiff": Case(
        animated("odd.tif"), read={"odd.tif": UPRIGHT}, warned="holds 3 pictures"
    ),
    "spaces": Case(named("my photo (1).jpg"), read={"my photo (1).jpg": UPRIGHT}),
    "unicode": Case(named("Füße 写真.jpg"), read={"Füße 写真.jpg": UPRIGHT}),
    "only unicode": Case(
        named("写真.jpg", "画像.jpg"), read={"写真.jpg": UPRIGHT, "画像.jpg": UPRIGHT}
    ),
    "newline": Case(named("a\nb.jpg"), read={"a\nb.jpg": UPRIGHT}),
    "leading dash": Case(
        named("-rf.jpg", "--help.jpg"), read={"-rf.jpg": UPRIGHT, "--help.jpg": UPRIGHT}
    ),
    "shell and markup": Case(named("$(x) <b>&'\".jpg"), read={"$(x) <b>&'\".jpg": UPRIGHT}),
    "250 characters": Case(named(LONG), read={LONG: UPRIGHT}),
    "no text": Case(no_text, read={"caf\\xe9.jpg": UPRIGHT}),
    "no suffix": Case(named("IMG_0001"), read={"IMG_0001": UPRIGHT}),
    "wrong suffix": Case(named("odd.png"), read={"odd.png": UPRIGHT}),
    "capital suffix": Case(named("odd.JPG"), read={"odd.JPG": UPRIGHT}),
    "equal names in sub-folders": Case(
        named("x/a.jpg", "y/a.jpg", "x_a.jpg"),
        read={"x/a.jpg": UPRIGHT, "y/a.jpg": UPRIGHT, "x_a.jpg": UPRIGHT},
    ),
    "equal names but for case and suffix": Case(
        named("a.jpg", "A.JPG", "a.jpeg", "a.png"),
        read=dict.fromkeys(("a.jpg", "A.JPG", "a.jpeg", "a.png"), UPRIGHT),
    ),
    "link loops": Case(links, skipped={"gone.jpg": "link", "round": "link"}),
    "copy of a photo": Case(
        twins,
        read={"copy.jpg": UPRIGHT},
        skipped={"good_1.jpg": "the same picture as copy.jpg"},
    ),
    "same pixels in another format": Case(
        same_pixels, read={"one.png": UPRIGHT}, skipped={"two.bmp": "the same picture as one.png"}
    ),
    "20 megapixels beside small and tall": Case(
        mixed_sizes, read={"large.jpg": (5472, 3648), "tall.jpg": TURNED}
    ),
    "shrunk": Case(
        lambda folder: save(folder / "odd.png", 7, (400, 200)),
        read={"odd.png": (128, 64)},
        settings={"max_size": 128},
    ),
    "no permission": Case(
        unreadable,
        **(
            {"read": {"odd.jpg": UPRIGHT}}
            if os.getuid() == 0
            else {"skipped": {"odd.jpg": "cannot be read"}}
        ),
    ),
}


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below `folder`, with size and time of change."""
    return {
        os.path.join(root, name): (info.st_size, info.st_mtime_ns)  # noqa: PTH118
        for root, _, names in os.walk(folder)
        for name in names
        for info in [os.lstat(os.path.join(root, name))]  # noqa: PTH118
    }


def run(given: Path, out: Path, *, until: str = "prepare", **settings: Any) -> Workspace:
    workspace = Workspace(out)
    out.mkdir(parents=True, exist_ok=True)
    request = RunRequest(
        inputs=RunInputs(images=str(given)), config=RunConfig(prepare=PrepareSettings(**settings))
    )
    Engine(workspace, request).reconstruct(until=until)
    return workspace


def two_good_photos(folder: Path) -> None:
    save(folder / "good_1.jpg", 1)
    save(folder / "good_2.jpg", 2)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_input_is_read_or_listed_as_skipped(case: Case, tmp_path: Path) -> None:
    given, out = tmp_path / "given", tmp_path / "out"
    two_good_photos(given)
    case.make(given)
    before = snapshot(given)
    run(given, out, **case.settings)
    assert snapshot(given) == before
    assert {path.name for path in tmp_path.iterdir()} == {"given", "out"}
    table = json.loads((out / "prepare/table.json").read_text())
    rows = {row["original"]: row for row in table["photos"]}
    skipped = {row["original"]: row["reason"] for row in table["skipped"]}
    good = {name: UPRIGHT for name in ("good_1.jpg", "good_2.jpg") if name not in case.skipped}
    assert {name: (row["width"], row["height"]) for name, row in rows.items()} == {
        **good,
        **case.read,
    }
    assert skipped.keys() == case.skipped.keys()
    for name, reason in case.skipped.items():
        assert re.search(reason, skipped[name]), skipped[name]
    if case.warned:
        (name,) = case.read
        assert case.warned in rows[name]["warnings"][0]
    images = out / "prepare/images"
    assert {path.name for path in images.iterdir()} == {row["name"] for row in rows.values()}
    for row in rows.values():
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.(jpg|png)", row["name"])
        with Image.open(images / row["name"]) as picture:
            assert (picture.mode, picture.size) == ("RGB", (row["width"], row["height"]))


def no_photo(folder: Path) -> None:
    holding("notes.txt", b"hello")(folder)


def only_damaged(folder: Path) -> None:
    cut("odd.jpg", 0.5)(folder)


def one_photo(folder: Path) -> None:
    save(folder / "good_1.jpg", 1)


def identical(folder: Path) -> None:
    one_photo(folder)
    twins(folder)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no photos"),
        (no_photo, r"no usable photo|no photo"),
        (only_damaged, r"no usable photo.*odd\.jpg"),
        (one_photo, "only one usable photo"),
        (identical, r"only one usable photo.*same picture"),
    ],
)
def test_too_little_input_ends_in_one_clear_error(
    make: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    (tmp_path / "given").mkdir()
    make(tmp_path / "given")
    with pytest.raises(InputError, match=words) as caught:
        run(tmp_path / "given", tmp_path / "out")
    assert caught.value.action
    assert {path.name for path in tmp_path.iterdir()} == {"given", "out"}


def test_a_missing_input_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        run(tmp_path / "nowhere", tmp_path / "out")


def test_an_output_folder_inside_the_input_is_not_read_again(tmp_path: Path) -> None:
    two_good_photos(tmp_path / "given")
    for _ in range(2):
        workspace = run(tmp_path / "given", tmp_path / "given/out")
    table = json.loads((workspace.stage_dir("prepare") / "table.json").read_text())
    assert [row["original"] for row in table["photos"]] == ["good_1.jpg", "good_2.jpg"]


@pytest.mark.parametrize("kind", ["all black", "without overlap"])
def test_photos_that_share_nothing_end_in_one_clear_error(kind: str, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    for index in range(3):
        rng = np.random.default_rng(index)
        values = np.full((96, 128, 3), index, np.uint8)
        if kind == "without overlap":
            values = rng.integers(0, 255, values.shape, dtype=np.uint8)
        Image.fromarray(values).save(given / f"{index}.png")
    with pytest.raises(RefdepthError, match="no camera could be placed") as caught:
        run(given, tmp_path / "out", until="sfm")
    assert isinstance(caught.value, StageError)
    assert caught.value.action


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(CASES) >= 50
