"""Which frames of a video are taken, and how they are saved."""

from __future__ import annotations

import builtins
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, shift

from refdepth.errors import InputError, Interrupted, UnavailableError
from refdepth.ingest import PrepareSettings
from refdepth.ingest.frame_choice import FrameMeasure, select_frames
from refdepth.ingest.video import image_motion, prepare_video

WIDTH, HEIGHT = 320, 240


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """A wide random texture (height, width) with detail at several scales."""
    rng = np.random.default_rng(0)
    noise = sum(gaussian_filter(rng.normal(size=(HEIGHT, 900)), s) * s for s in (1.5, 3, 6))
    low, high = np.percentile(noise, [1, 99])
    return (np.clip((noise - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def write_video(path: Path, frames: Sequence[np.ndarray], fps: int = 15) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast"}
        for frame in frames:
            rgb = np.repeat(frame[..., None], 3, axis=-1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def panning(tmp_path_factory: pytest.TempPathFactory, texture: np.ndarray) -> Path:
    """80 frames that stand still, then pan by 4 px a frame, then stand; every third is blurred."""
    starts = [0] * 10 + [4 * step for step in range(60)] + [236] * 10
    frames = [texture[:, start : start + WIDTH] for start in starts]
    frames = [
        gaussian_filter(frame, 2) if index % 3 == 1 else frame for index, frame in enumerate(frames)
    ]
    return write_video(tmp_path_factory.mktemp("video") / "pan.mp4", frames)


@pytest.mark.parametrize("move", [(0, 0), (0, 3), (5, 0), (4, -7), (-12, 9)])
def test_motion_of_a_moved_picture_is_measured(texture: np.ndarray, move: tuple[int, int]) -> None:
    first = texture[:, :WIDTH].astype(np.float32)
    second = shift(first, move, order=1, mode="wrap")
    assert image_motion(first, second) == pytest.approx(np.hypot(*move), abs=0.3)


def test_unrelated_pictures_count_as_large_motion(texture: np.ndarray) -> None:
    first = texture[:, :WIDTH].astype(np.float32)
    unrelated = np.random.default_rng(1).permutation(first.ravel()).reshape(first.shape)
    assert image_motion(first, unrelated) > 10


def measures(motion: Sequence[float], sharpness: Sequence[float] | None = None) -> list[Any]:
    return [
        FrameMeasure(
            index=index,
            time_s=index / 10,
            sharpness=sharpness[index] if sharpness is not None else 1.0,
            motion=value,
        )
        for index, value in enumerate(motion)
    ]


def test_frames_are_spaced_by_motion_not_by_time() -> None:
    motion = [*np.linspace(0, 1, 100), *([1.0] * 50), *np.linspace(1, 4, 100)]
    settings = PrepareSettings(frame_spacing=0.1)
    chosen = select_frames(measures(motion), settings)
    steps = np.diff([measure.motion for measure in chosen])
    assert len(chosen) == pytest.approx(41, abs=2)
    assert steps.max() < 0.21
    assert sum(100 <= measure.index < 150 for measure in chosen) <= 1


def test_the_sharpest_frame_near_each_place_is_taken() -> None:
    sharpness = [10.0 if index % 5 == 2 else 1.0 for index in range(200)]
    chosen = select_frames(
        measures(np.linspace(0, 4, 200), sharpness), PrepareSettings(frame_spacing=0.15)
    )
    assert np.mean([measure.sharpness == 10 for measure in chosen[1:-1]]) == 1


def test_limits_on_number_and_time_hold() -> None:
    many = select_frames(measures(np.linspace(0, 50, 3000)), PrepareSettings(max_frames=60))
    assert 50 <= len(many) <= 60
    assert many[-1].motion > 48
    slow = select_frames(
        measures(np.linspace(0, 3, 3000)),
        PrepareSettings(frame_spacing=0.5, max_frame_interval_s=2.0, min_frame_interval_s=0.5),
    )
    gaps = np.diff([measure.time_s for measure in slow])
    assert 0.5 <= gaps.min() <= gaps.max() <= 20


def test_a_short_way_is_still_cut_into_many_frames() -> None:
    assert len(select_frames(measures(np.linspace(0, 0.2, 300)), PrepareSettings())) >= 20


def test_a_still_video_gives_its_sharpest_frame_only() -> None:
    chosen = select_frames(measures([0.0] * 30, [1.0] * 20 + [2.0] + [1.0] * 9), PrepareSettings())
    assert [measure.index for measure in chosen] == [20]


def test_frames_are_saved_and_described(panning: Path, tmp_path: Path) -> None:
    found = prepare_video(panning, tmp_path / "pan", original="clips/pan.mp4")
    assert found.analysed == 80
    assert 16 <= len(found.frames) <= 24
    for row in found.frames:
        with Image.open(tmp_path / row.name) as picture:
            assert (picture.mode, picture.size) == ("RGB", (WIDTH, HEIGHT))
        assert row.frame is not None
        assert row.name == f"pan_{row.frame['index']:06d}.png"
        assert row.sequence == "clips/pan.mp4"
    blurred = np.mean([row.frame["index"] % 3 == 1 for row in found.frames if row.frame])
    assert blurred < 0.15
    indices = [row.frame["index"] for row in found.frames if row.frame]
    assert sum(index < 10 for index in indices) <= 2
    again = prepare_video(panning, tmp_path / "again", original="clips/pan.mp4")
    assert [row.pixel_hash for row in again.frames] == [row.pixel_hash for row in found.frames]


def test_a_turned_video_comes_out_upright(panning: Path, tmp_path: Path) -> None:
    """The display matrix in the track header (ISO 14496-12, 8.3.2) says: turn by 90 degrees
    clockwise, as phones write it for portrait videos."""
    content = bytearray(panning.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one, identity = 1 << 16, struct.unpack(">9i", content[matrix : matrix + 36])
    assert identity == (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, one, 0, -one, 0, 0, HEIGHT << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = turned
    (tmp_path / "turned.mp4").write_bytes(content)
    found = prepare_video(tmp_path / "turned.mp4", tmp_path / "turned")
    straight = prepare_video(panning, tmp_path / "straight")
    with Image.open(tmp_path / found.frames[0].name) as one_picture:
        portrait = np.asarray(one_picture)
    with Image.open(tmp_path / straight.frames[0].name) as other:
        np.testing.assert_array_equal(portrait, np.rot90(np.asarray(other), -1))
    assert (found.frames[0].width, found.frames[0].height) == (HEIGHT, WIDTH)


def test_what_is_no_video_or_breaks_off_is_said(panning: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_bytes(b"hello " * 100)
    with pytest.raises(InputError, match="not a video"):
        prepare_video(tmp_path / "text.mp4", tmp_path / "text")
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(InputError):
        prepare_video(tmp_path / "empty.mp4", tmp_path / "empty")
    (tmp_path / "cut.mp4").write_bytes(panning.read_bytes()[:-3000])
    with pytest.raises(InputError):
        prepare_video(tmp_path / "cut.mp4", tmp_path / "cut")


def test_an_unknown_format_is_said(panning: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(panning.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(InputError, match=r"a\.mp4.*does not know"):
        prepare_video(path, tmp_path / "a")


def test_frames_may_change_their_size(texture: np.ndarray, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    parts = []
    for width, height in ((160, 120), (128, 160)):
        path = tmp_path / "part.m2v"
        with av.open(str(path), "w", format="mpeg2video") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for start in range(0, 240, 8):
                rgb = np.repeat(texture[:height, start : start + width, None], 3, axis=-1)
                for packet in stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        parts.append(path.read_bytes())
    (tmp_path / "both.mpg").write_bytes(b"".join(parts))
    found = prepare_video(tmp_path / "both.mpg", tmp_path / "both")
    assert {(row.width, row.height) for row in found.frames} == {(160, 120), (128, 160)}


def test_without_pyav_the_error_says_how_to_get_it(
    panning: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without_av(name: str, *rest: Any, **options: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(UnavailableError, match=r"refdepth\[video\]"):
        prepare_video(panning, tmp_path / "pan")


def test_reading_stops_when_asked(panning: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        prepare_video(panning, tmp_path / "pan", cancelled=lambda: True)
