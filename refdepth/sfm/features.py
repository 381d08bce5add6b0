"""Finding and matching features."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from refdepth.ingest.photos import PreparedPhoto
from refdepth.sfm.chosen_pairs import choose_pairs
from refdepth.sfm.database import feature_counts
from refdepth.sfm.native import Cancelled, Progress, run_step
from refdepth.sfm.pairs import PairPlan
from refdepth.sfm.settings import Guided, SfmSettings
from refdepth.sfm.sift import WHOLE_PIXELS, thread_bytes

logger = logging.getLogger(__name__)

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
    threads: int,
    memory_mb: float | None,
    masks: Path | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """SIFT features of all photos into `database`; photos that have theirs are skipped. At most
    `threads` work at once, fewer where `memory_mb` (None: half of what is free) asks for it; one
    works in any case, with a warning where that is too much."""
    pixels = {photo.name: _pixels(photo, settings) for photo in photos}
    small: list[str] = []
    large: list[str] = []
    for name, count in pixels.items():
        (large if count > WHOLE_PIXELS else small).append(name)
    for_small, for_large = (
        max((thread_bytes(pixels[name]) for name in names), default=0.0) for names in (small, large)
    )
    per_thread = max(for_small, for_large)
    if memory_mb is not None and per_thread > memory_mb * 2**20:
        logger.warning(
            "finding features in one photo takes about %.1f GB, where memory allows %.1f; "
            "a smaller sfm.feature_image_size (%d) takes less",
            per_thread / 1e9,
            memory_mb * 2**20 / 1e9,
            settings.feature_image_size,
        )
    run_step(
        "extract",
        label="finding features",
        total=len(photos),
        database=database,
        images=images,
        names=small,
        large=large,
        masks=masks,
        max_features=settings.max_features,
        max_image_size=settings.feature_image_size,
        threads=_affordable(threads, for_small, memory_mb),
        threads_large=_affordable(threads, for_large, memory_mb),
        progress=progress,
        cancelled=cancelled,
    )


def match_features(
    database: Path,
    plan: PairPlan,
    settings: SfmSettings,
    *,
    seed: int,
    threads: int,
    memory_mb: float | None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> None:
    """Matches and verifies the pairs of photos that `plan` leads to; pairs that have their matches
    are skipped. `threads` and `memory_mb` as for `extract_features`."""
    watch: dict[str, Any] = {"progress": progress, "cancelled": cancelled}
    pairs = choose_pairs(database, plan, settings, seed=seed, **watch)
    counts = sorted(feature_counts(database).values())
    guided = settings.guided_matching == Guided.ON or (
        settings.guided_matching == Guided.AUTO and counts[len(counts) // 2] <= _GUIDED_FEATURES
    )
    if guided:
        per_thread = _GUIDED_BYTES_PER_PAIR * counts[-1] ** 2
        threads = _affordable(threads, per_thread, memory_mb)
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
            seed=seed,
            threads=threads,
            **watch,
        )


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


def _pixels(photo: PreparedPhoto, settings: SfmSettings) -> float:
    """Pixels of a photo, as features are looked for."""
    shrink = min(1.0, settings.feature_image_size / max(photo.width, photo.height))
    return photo.width * photo.height * shrink**2


def _affordable(threads: int, bytes_per_thread: float, memory_mb: float | None) -> int:
    free = psutil.virtual_memory().available
    budget = _MEMORY_SHARE * free if memory_mb is None else memory_mb * 2**20
    return max(1, min(threads, int(budget / max(1.0, bytes_per_thread))))
