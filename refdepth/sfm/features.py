"""Finding and matching features."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil

from refdepth.cores import usable_cores
from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.database import feature_counts
from refdepth.sfm.native import Cancelled, Progress, run_step
from refdepth.sfm.pairs import choose_pairs
from refdepth.sfm.settings import Guided, Matching, SfmSettings

_SIFT_BYTES_PER_PIXEL = 320
"""Peak memory of one SIFT thread per pixel of the (shrunk) photo: pyramids start at twice the
size. Measured, rounded up."""
_GUIDED_BYTES_PER_PAIR = 16
"""Peak memory of one guided matching thread per pair of features of two photos. Measured."""
_GUIDED_FEATURES = 4096
"""Most features, in the median photo, for which guided matching is worth its price."""
_MEMORY_SHARE = 0.5
"""Share of the free memory that features may take."""


def extract_features(
    database: Path,
    images: Path,
    photos: Sequence[PreparedPhoto],
    settings: SfmSettings,
    *,
    masks: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """SIFT features of all photos into `database`; photos that have theirs are skipped."""
    run_step(
        "extract",
        label="finding features",
        total=len(photos),
        database=database,
        images=images,
        names=[photo.name for photo in photos],
        masks=masks,
        max_features=settings.max_features,
        max_image_size=settings.feature_image_size,
        threads=_extraction_threads(photos, settings),
        progress=progress,
        cancelled=cancelled,
    )


def match_features(
    database: Path,
    photos: Sequence[PreparedPhoto],
    settings: SfmSettings,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Matching:
    """Matches and verifies pairs of photos; pairs that have their matches are skipped. Returns how
    the pairs were chosen."""
    matching, pairs = choose_pairs(photos, settings)
    counts = sorted(feature_counts(database).values())
    guided = settings.guided_matching == Guided.ON or (
        settings.guided_matching == Guided.AUTO and counts[len(counts) // 2] <= _GUIDED_FEATURES
    )
    threads = settings.threads or usable_cores()
    if guided:
        per_thread = _GUIDED_BYTES_PER_PAIR * counts[-1] ** 2
        threads = _affordable(threads, per_thread, settings.memory_mb)
    with tempfile.TemporaryDirectory(prefix=".tmp-pairs-", dir=database.parent) as folder:
        path = Path(folder) / "pairs.txt"
        path.write_text("".join(f"{first} {second}\n" for first, second in pairs))
        run_step(
            "match",
            label="matching photos",
            total=len(pairs),
            database=database,
            pairs=path,
            guided=guided,
            seed=settings.seed,
            threads=threads,
            progress=progress,
            cancelled=cancelled,
        )
    return matching


def mask_hashes(masks: Path | None, photos: Sequence[PreparedPhoto]) -> dict[str, str]:
    """Content hash of each photo's mask `NAME.png`, for photos that have one."""
    if masks is None:
        return {}
    paths = {photo.name: masks / f"{photo.name}.png" for photo in photos}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in paths.items()
        if path.exists()
    }


def _extraction_threads(photos: Sequence[PreparedPhoto], settings: SfmSettings) -> int:
    def pixels(photo: PreparedPhoto) -> float:
        shrink = min(1.0, settings.feature_image_size / max(photo.width, photo.height))
        return photo.width * photo.height * shrink**2

    largest = max(map(pixels, photos))
    threads = settings.threads or usable_cores()
    return _affordable(threads, largest * _SIFT_BYTES_PER_PIXEL, settings.memory_mb)


def _affordable(threads: int, bytes_per_thread: float, memory_mb: float | None) -> int:
    free = psutil.virtual_memory().available
    budget = _MEMORY_SHARE * free if memory_mb is None else memory_mb * 2**20
    return max(1, min(threads, int(budget / max(1.0, bytes_per_thread))))
