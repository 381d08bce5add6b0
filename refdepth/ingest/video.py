"""Frames of a video that structure from motion can use: sharp, and evenly spaced by image motion.

Time alone is a poor spacing: a pause gives frames without baseline, a quick turn frames without
overlap. The motion between frames is measured on small grey pictures by phase correlation of
patches (Kuglin and Hines 1975), so that parallax counts as well as panning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth.errors import InputError, Interrupted, UnavailableError
from refdepth.ingest.decoding import shrunk
from refdepth.ingest.discovery import readable
from refdepth.ingest.exif import CameraHint
from refdepth.ingest.faces import write_faces
from refdepth.ingest.panoramas import is_panorama
from refdepth.ingest.photos import PreparedPhoto, hash_pixels
from refdepth.ingest.saving import save_png
from refdepth.ingest.settings import PrepareSettings

_THUMB_SIZE = 320
_PATCH = 64
_RESET_MOTION = 4.0
"""Motion in thumb pixels after which the next frame is compared with a newer one."""
_LOST_MOTION = _PATCH / 4
"""Motion assumed where no patch can be followed: a cut or a very quick turn."""
_MIN_PEAK = 0.08
_MIN_CONTRAST = 4.0
_ANALYSED_FPS = 15.0
_WINDOW = 0.5
"""Half of the window, in spacings, in which the sharpest frame is taken."""
_FEWEST_FRAMES = 20
_FRAMES_TO_CHOOSE_FROM = 4
"""Spacings are not made so small that a window holds fewer frames, on average."""
_STILL = 0.25
"""Share of a spacing under which nothing is said to move."""

Progress = Callable[[str, float, float | None], None]


@dataclass(frozen=True, kw_only=True)
class FrameMeasure:
    """What was measured on one frame."""

    index: int
    """Number of the frame in the video, from 0."""
    time_s: float
    """Time of the frame, seconds."""
    sharpness: float
    """Mean squared Laplacian of the small grey picture."""
    motion: float
    """Image motion since the first frame, as a share of the picture's diagonal."""


@dataclass(frozen=True, kw_only=True)
class PreparedVideo:
    """The frames taken from one video."""

    frames: tuple[PreparedPhoto, ...]
    """Rows for the table; `frame` in each says why it was taken."""
    analysed: int
    """Number of frames that were looked at."""
    warnings: tuple[str, ...] = ()
    """What a user should know about the video; the first frame's row has them too."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


def prepare_video(
    path: Path,
    destination: Path,
    settings: PrepareSettings | None = None,
    *,
    original: str | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PreparedVideo:
    """Writes the chosen frames of video `path` as PNG `destination`_NUMBER.png, upright; those of a
    360 degree video as their faces.

    Raises `UnavailableError` without PyAV, `InputError` when the video cannot be read or is too
    large, `Interrupted` when `cancelled` says so.
    """
    settings = settings or PrepareSettings()
    original = readable(path.name) if original is None else original
    notes: list[str] = []
    measures = _measure(path, settings, notes, progress, cancelled)
    wanted = {measure.index: measure for measure in select_frames(measures, settings)}
    content_hash = _hash_file(path)
    rows: list[PreparedPhoto] = []
    saved, spherical = 0, None  # as the first frame is
    for index, frame in _decode(path, settings, []):
        _stop_if(cancelled)
        if index not in wanted:
            continue
        picture = _upright_frame(frame)
        stored = picture.size
        if spherical is None:
            spherical = is_panorama(picture, None, CameraHint(), settings.panoramas)
        if not spherical:
            picture = shrunk(picture, settings.max_size)
        row = PreparedPhoto(
            name=f"{destination.name}_{index:06d}.png",
            original=f"{original}#{index:06d}",
            width=picture.width,
            height=picture.height,
            stored_width=stored[0],
            stored_height=stored[1],
            content_hash=f"{content_hash}#{index}",
            pixel_hash=hash_pixels(picture),
            sequence=original,
            frame=asdict(wanted[index]),
            warnings=() if rows else tuple(notes),
        )
        if spherical:
            rows += write_faces(picture, destination.parent, row, settings)
        else:
            save_png(picture, destination.with_name(row.name))
            rows.append(row)
        saved += 1
        if progress is not None:
            progress("saving frames", saved, len(wanted))
        if saved == len(wanted):
            break
    return PreparedVideo(frames=tuple(rows), analysed=len(measures), warnings=tuple(notes))


def select_frames(
    measures: Sequence[FrameMeasure], settings: PrepareSettings
) -> list[FrameMeasure]:
    """The sharpest frame near each multiple of the spacing in image motion; the spacing gives way
    to the limits on number and time."""
    if not measures:
        return []
    total = measures[-1].motion - measures[0].motion
    most = min(settings.max_frames - 1, len(measures) // _FRAMES_TO_CHOOSE_FROM)
    spacing = min(settings.frame_spacing, total / _FEWEST_FRAMES)
    spacing = max(spacing, total / max(1, most))
    if spacing <= 0:
        return [max(measures, key=lambda measure: measure.sharpness)]
    chosen: list[FrameMeasure] = []
    for slot in range(round(total / spacing) + 1):
        center = measures[0].motion + slot * spacing
        earliest = chosen[-1].time_s + settings.min_frame_interval_s if chosen else -np.inf
        near = [
            measure
            for measure in measures
            if abs(measure.motion - center) <= _WINDOW * spacing
            and measure.time_s >= earliest
            and (not chosen or measure.index > chosen[-1].index)
        ]
        if near:
            chosen.append(max(near, key=lambda measure: measure.sharpness))
    filled = _fill_gaps(chosen, measures, spacing, settings)
    return filled if len(filled) <= settings.max_frames else chosen


def _fill_gaps(
    chosen: Sequence[FrameMeasure],
    measures: Sequence[FrameMeasure],
    spacing: float,
    settings: PrepareSettings,
) -> list[FrameMeasure]:
    """Adds the sharpest frame in the middle of gaps that are long in time and not still."""
    filled = list(chosen[:1])
    for following in chosen[1:]:
        while following.time_s - filled[-1].time_s > settings.max_frame_interval_s:
            low = filled[-1].time_s + settings.max_frame_interval_s / 2
            high = filled[-1].time_s + settings.max_frame_interval_s
            between = [
                measure
                for measure in measures
                if low <= measure.time_s <= min(high, following.time_s)
                and measure.motion - filled[-1].motion >= _STILL * spacing
                and following.motion - measure.motion >= _STILL * spacing
            ]
            if not between:
                break
            filled.append(max(between, key=lambda measure: measure.sharpness))
        filled.append(following)
    return filled


def _measure(
    path: Path,
    settings: PrepareSettings,
    warnings: list[str],
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> list[FrameMeasure]:
    measures: list[FrameMeasure] = []
    reference: NDArray[np.float32] | None = None
    travelled = 0.0
    last_time = -np.inf
    for index, frame in _decode(path, settings, warnings):
        _stop_if(cancelled)
        time_s = float(frame.time) if frame.time is not None else index / _ANALYSED_FPS
        if time_s - last_time < 0.9 / _ANALYSED_FPS:
            continue
        last_time = time_s
        shrink = _THUMB_SIZE / max(frame.width, frame.height)
        thumb = (
            frame.reformat(
                width=max(_PATCH, round(frame.width * shrink)),
                height=max(_PATCH, round(frame.height * shrink)),
                format="gray",
            )
            .to_ndarray()
            .astype(np.float32)
        )
        diagonal = float(np.hypot(*thumb.shape))
        moved = 0.0 if reference is None else image_motion(reference, thumb)
        measures.append(
            FrameMeasure(
                index=index,
                time_s=time_s,
                sharpness=_sharpness(thumb),
                motion=(travelled + moved) / diagonal,
            )
        )
        if reference is None or moved >= _RESET_MOTION:
            reference = thumb
            travelled += moved
        if progress is not None and len(measures) % 10 == 0:
            progress("looking at frames", len(measures), None)
    if not measures:
        raise InputError("the video has no frame that can be read.", subject=path)
    return measures


def image_motion(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean displacement of patches between two grey pictures (height, width), pixels."""
    height, width = first.shape
    window = np.outer(np.hanning(_PATCH), np.hanning(_PATCH)).astype(np.float32)
    lengths = []
    for top in np.linspace(0, height - _PATCH, max(1, height // _PATCH)).astype(int):
        for left in np.linspace(0, width - _PATCH, max(1, width // _PATCH)).astype(int):
            patches = [
                picture[top : top + _PATCH, left : left + _PATCH] for picture in (first, second)
            ]
            if min(patch.std() for patch in patches) < _MIN_CONTRAST:
                continue
            spectra = [np.fft.rfft2((patch - patch.mean()) * window) for patch in patches]
            cross = spectra[0] * np.conj(spectra[1])
            surface = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-6), s=(_PATCH, _PATCH))
            peak = np.unravel_index(int(surface.argmax()), surface.shape)
            if surface[peak] < _MIN_PEAK:
                continue
            dy, dx = ((int(place) + _PATCH // 2) % _PATCH - _PATCH // 2 for place in peak)
            lengths.append(np.hypot(dx, dy))
    return float(np.mean(lengths)) if lengths else _LOST_MOTION


def _stop_if(cancelled: Callable[[], bool] | None) -> None:
    if cancelled is not None and cancelled():
        raise Interrupted("reading the video was stopped.")


def _sharpness(grey: NDArray[np.float32]) -> float:
    middle = 4 * grey[1:-1, 1:-1]
    sides = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.square(middle - sides).mean())


def _decode(
    path: Path, settings: PrepareSettings, warnings: list[str]
) -> Iterator[tuple[int, Any]]:
    """Frames of the first video stream, numbered from 0. A file that breaks off ends early, with a
    warning."""
    try:
        import av
    except ImportError as error:
        raise UnavailableError(
            "reading videos needs PyAV.",
            subject=path,
            action="Install it with: pip install 'refdepth[video]'",
        ) from error
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"not a video that can be read ({error}).", subject=path) from error
    with container:
        if not container.streams.video:
            raise InputError("has no video stream.", subject=path)
        stream = container.streams.video[0]
        if (stream.width or 0) * (stream.height or 0) > settings.max_megapixels * 1e6:
            raise InputError(f"{stream.width}x{stream.height} pixels are too many.", subject=path)
        count = 0
        try:
            for frame in container.decode(stream):
                yield count, frame
                count += 1
        except av.error.FFmpegError as error:
            warnings.append(f"breaks off after {count} frames ({error})")


def _upright_frame(frame: Any) -> Image.Image:
    """The frame as RGB, turned as the file's display matrix says."""
    pixels = frame.to_ndarray(format="rgb24")
    quarters = round((getattr(frame, "rotation", 0) or 0) / 90) % 4
    return Image.fromarray(np.ascontiguousarray(np.rot90(pixels, quarters)))


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
