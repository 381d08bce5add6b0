"""Frames of a video that structure from motion can use: sharp, and evenly spaced by image motion.

Time alone is a poor spacing: a pause gives frames without baseline, a quick turn frames without
overlap. The motion between frames is measured on small grey pictures by phase correlation of
patches (Kuglin and Hines 1975), so that parallax counts as well as panning.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
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
from refdepth.ingest.frame_choice import FrameMeasure, select_frames
from refdepth.ingest.panoramas import EQUIRECTANGULAR, Projection, is_panorama
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
Progress = Callable[[str, float, float | None], None]


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
            stated = _stated_projection(frame)
            spherical = is_panorama(picture, stated, CameraHint(), settings.panoramas)
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
    """Mean displacement of patches between two grey pictures (height, width), pixels. Between
    pictures of two shapes there is a cut."""
    if first.shape != second.shape:
        return _LOST_MOTION
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
        if stream.codec_context is None:
            raise InputError("its video is in a format that PyAV does not know.", subject=path)
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


def _stated_projection(frame: Any) -> Projection | None:
    """The projection in a video's spherical metadata; None where it says nothing."""
    for data in frame.side_data:
        if data.type.name == "SPHERICAL":
            # FFmpeg's AVSphericalMapping begins with its AVSphericalProjection; 2 is a tile of 0.
            number = int.from_bytes(bytes(data)[:4], sys.byteorder)
            name = EQUIRECTANGULAR if number in (0, 2) else "other"
            return Projection(name=name, whole=number == 0)
    return None


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
