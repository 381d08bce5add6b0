"""SIFT features by pycolmap; those of large photos in a fraction of the memory.

SIFT looks for its finest features in a photo at twice its size, which takes most of its time and
memory, and leaves them out where the coarser ones are as many as are wanted. For large photos the
coarser ones come first here, and only a photo that has too few of them is looked at at twice its
size, strip by strip.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refdepth._pycolmap import pycolmap

WHOLE_PIXELS = 2_500_000
"""Photos of more pixels, at the size that features are looked for at, are large."""
_STRIP_PIXELS = 1_500_000
_LEAST_ROWS = 128
_BYTES_PER_PIXEL = 320
"""Peak memory of a thread per pixel where it begins at twice the size. Measured, rounded up."""
_COARSE_BYTES_PER_PIXEL = 80
"""The same where it begins at the photo's own size."""
_MARGIN = 40
"""Rows of its neighbours that a strip has too: descriptors of the finest features reach some 11
times their scale of at most 1.6 pixels, smoothing a few rows more."""
_BLOCK = 4
"""Photos for each thread between two writes to the database: what a stop may lose."""


def thread_bytes(pixels: float) -> float:
    """Peak memory of a thread that looks for features in a photo of so many pixels."""
    if pixels <= WHOLE_PIXELS:
        return pixels * _BYTES_PER_PIXEL
    width = (2 * pixels) ** 0.5  # of a photo twice as wide as high
    strip = max(_STRIP_PIXELS, _LEAST_ROWS * width) + 2 * _MARGIN * width
    return max(pixels * _COARSE_BYTES_PER_PIXEL, strip * _BYTES_PER_PIXEL)


@dataclass(frozen=True)
class Features:
    """Features of a photo: `(N, 6)` keypoints as COLMAP has them (x, y, then the 2x2 shape row by
    row; pixels, the top left corner is 0, 0) and `(N, 128)` descriptors."""

    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.keypoints)

    def __getitem__(self, chosen: NDArray[Any]) -> Features:
        return Features(self.keypoints[chosen], self.descriptors[chosen])


@dataclass(frozen=True)
class Sift:
    """What is looked for, and by how many threads."""

    max_features: int
    """About how many features a photo has at most; the largest are kept."""
    max_image_size: int
    """Photos whose longer side has more pixels are shrunk to it."""
    threads: int

    def find(
        self,
        database: Path,
        images: Path,
        names: Sequence[str],
        masks: Path | None,
        *,
        first_octave: int = -1,
        octaves: int = 4,
    ) -> None:
        """Features of photos `names` in folder `images` into `database`, without those on black
        pixels of a mask `NAME.png`; photos that have theirs are skipped. Octave -1 is the photo at
        twice its size."""
        options = pycolmap.FeatureExtractionOptions()
        options.use_gpu = False
        options.num_threads = self.threads
        options.max_image_size = self.max_image_size
        options.sift.max_num_features = self.max_features
        options.sift.first_octave = first_octave
        options.sift.num_octaves = octaves
        masked = [name for name in names if masks and (masks / f"{name}.png").exists()]
        unmasked = sorted(set(names) - set(masked))
        for group, mask_path in ((masked, masks), (unmasked, None)):
            if not group:  # which pycolmap would take for all
                continue
            reader = pycolmap.ImageReaderOptions()
            if mask_path is not None:  # given a mask path, it leaves out photos without a mask
                reader.mask_path = mask_path
            pycolmap.extract_features(
                database,
                images,
                group,
                reader_options=reader,
                extraction_options=options,
                device=pycolmap.Device.cpu,
            )

    def find_large(
        self,
        database: Path,
        images: Path,
        names: Sequence[str],
        masks: Path | None,
        *,
        report: Callable[[int], None],
    ) -> None:
        """`find` for large photos. `report` is told how many of them have their features."""
        with pycolmap.Database.open(database) as opened:
            missing = [name for name in names if not _is_done(opened, name)]
        size = _BLOCK * self.threads
        for start in range(0, len(missing), size):
            report(len(names) - len(missing) + start)
            block = missing[start : start + size]
            with tempfile.TemporaryDirectory(prefix=".tmp-sift-", dir=database.parent) as scratch:
                coarse = Path(scratch) / "coarse.db"
                self.find(coarse, images, block, masks, first_octave=0, octaves=3)
                found = read_features(coarse, block)
                for name in found:
                    room = self.max_features - len(found[name])
                    if room > 0:
                        mask = masks / f"{name}.png" if masks else None
                        fine = self.finest(Path(scratch), images / name, mask)
                        largest = np.argsort(-scales(fine), kind="stable")[:room]
                        found[name] = _joined([found[name], fine[largest]])
            _write(database, found)

    def finest(self, scratch: Path, photo: Path, mask: Path | None) -> Features:
        """Features of the finest octave."""
        grey = pycolmap.Bitmap.read(photo, as_rgb=False)
        full = np.array([grey.width, grey.height])
        shrink = min(1.0, self.max_image_size / full.max())
        if shrink < 1:
            grey.rescale(*(int(side * shrink) for side in full))
        pixels = grey.to_array().reshape(grey.height, grey.width)
        usable = None
        if mask is not None and mask.exists():
            with Image.open(mask) as opened:
                usable = np.asarray(opened.convert("L").resize((grey.width, grey.height), 0))
        strips = _strips(grey.height, grey.width)
        names = [f"{index}.pgm" for index in range(len(strips))]
        with tempfile.TemporaryDirectory(dir=scratch) as path:
            folder = Path(path)
            (folder / "masks").mkdir()
            for name, (rows, _) in zip(names, strips, strict=True):
                Image.fromarray(pixels[rows]).save(folder / name)
                if usable is not None:
                    Image.fromarray(usable[rows]).save(folder / "masks" / f"{name}.png")
            database = folder / "fine.db"
            self.find(database, folder, names, folder / "masks", first_octave=-1, octaves=1)
            found = read_features(database, names)
        own = []
        for name, (rows, kept) in zip(names, strips, strict=True):
            found[name].keypoints[:, 1] += rows.start
            y = found[name].keypoints[:, 1]
            own.append(found[name][(y >= kept.start) & (y < kept.stop)])
        every = _joined(own)
        every.keypoints[:] *= np.tile(full / (grey.width, grey.height), 3).astype(np.float32)
        return every


def _strips(height: int, width: int) -> list[tuple[slice, slice]]:
    """Rows of each strip, and those of them that no other strip keeps features of.

    No two have the same number of rows: for a picture of the size of the one before, VLFeat takes
    that one's gradients where no other octave came between.
    """
    step = max(_LEAST_ROWS, _STRIP_PIXELS // width)
    tops = range(0, height, step)
    strips = []
    sizes: set[int] = set()
    for top in tops:
        end = min(height, top + step + _MARGIN)
        start = max(0, top - _MARGIN)
        while end - start in sizes:
            start -= 1
        sizes.add(end - start)
        strips.append((slice(start, end), slice(top, top + step)))
    return strips


def scales(found: Features) -> NDArray[np.float32]:
    """Size of each, `(N,)`: the scale in pixels that it was found at."""
    a, b, c, d = found.keypoints[:, 2:].T
    found_at: NDArray[np.float32] = np.sqrt(np.abs(a * d - b * c))
    return found_at


def _joined(several: Sequence[Features]) -> Features:
    return Features(
        np.concatenate([each.keypoints for each in several]),
        np.concatenate([each.descriptors for each in several]),
    )


def _is_done(opened: Any, name: str) -> bool:
    image = opened.read_image_with_name(name).image_id
    return bool(opened.exists_keypoints(image) and opened.exists_descriptors(image))


def read_features(database: Path, names: Sequence[str]) -> dict[str, Features]:
    """What `database` has of photos `names`; those that could not be read are left out."""
    found = {}
    with pycolmap.Database.open(database) as opened:
        for name in names:
            image = opened.read_image_with_name(name)
            if image is None:
                continue
            keypoints = np.array(opened.read_keypoints(image.image_id), np.float32)
            descriptors = np.array(opened.read_descriptors(image.image_id).data, np.uint8)
            found[name] = Features(keypoints.reshape(-1, 6), descriptors.reshape(-1, 128))
    return found


def _write(database: Path, found: Mapping[str, Features]) -> None:
    with pycolmap.Database.open(database) as opened, pycolmap.DatabaseTransaction(opened):
        for name, features in found.items():
            image = opened.read_image_with_name(name).image_id
            opened.write_keypoints(image, features.keypoints)
            kind = pycolmap.FeatureExtractorType.SIFT
            descriptors = pycolmap.FeatureDescriptors(kind, features.descriptors)
            opened.write_descriptors(image, descriptors)
