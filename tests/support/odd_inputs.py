"""Makers of the files and folders of the input corpus: each adds something odd to a folder."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

WIDTH, HEIGHT = 96, 64


def pixels(seed: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A smooth random picture (height, width, 3), different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (8, 12, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def save(
    path: Path, seed: int = 7, size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, *size)).save(path, **options)


def as_mode(name: str, mode: str, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        Image.fromarray(pixels(7)).convert(mode).save(folder / name, **options)

    return make


def cut(name: str, keep: float) -> Callable[[Path], None]:
    """A file that breaks off after a share of its bytes."""

    def make(folder: Path) -> None:
        save(folder / name)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return make


def holding(name: str, content: bytes) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return make


def named(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for seed, name in enumerate(names, start=20):
            save(folder / name, seed, format="JPEG")

    return make


def turned(orientation: int) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        save(folder / "odd.jpg", exif=exif)

    return make


def focal(value: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0xA405] = value
        save(folder / "odd.jpg", exif=exif)

    return make


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG file by the specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def deep_png() -> bytes:
    samples = (pixels(7).astype(">u2") * 257).reshape(HEIGHT, -1)
    return png(WIDTH, HEIGHT, 16, 2, b"".join(b"\0" + row.tobytes() for row in samples))


def animated(name: str, **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        frames = [Image.fromarray(pixels(seed)) for seed in (7, 8, 9)]
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], **options)

    return make


def links(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/up").symlink_to(folder)
    (folder / "round").symlink_to(folder / "round")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")


def twins(folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "good_1.jpg").read_bytes())


def same_pixels(folder: Path) -> None:
    save(folder / "one.png")
    save(folder / "two.bmp")


def mixed_sizes(folder: Path) -> None:
    save(folder / "large.jpg", 30, (5472, 3648))
    save(folder / "tall.jpg", 31, (HEIGHT, WIDTH))


def unreadable(folder: Path) -> None:
    save(folder / "odd.jpg")
    (folder / "odd.jpg").chmod(0)


def no_text(folder: Path) -> None:
    save(folder / "plain.jpg")
    os.rename(folder / "plain.jpg", os.fsencode(folder) + b"/caf\xe9.jpg")  # noqa: PTH104


def heic(folder: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.fromarray(pixels(7))).save(folder / "odd.heic")


def video_content() -> bytes:
    return struct.pack(">I", 24) + b"ftypisom" + bytes(12) + bytes(range(256)) * 8
