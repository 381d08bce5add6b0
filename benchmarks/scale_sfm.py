"""Cameras of many photos: pairs, photos placed and time of each way to match and to map.

A street of houses that repeat is rendered, its photos shuffled, and reconstructed with each
matching and mapper. Seconds are wall clock and, in brackets, processor time of all threads.

    python benchmarks/scale_sfm.py [--photos 300] [--size 320x240] [--features 500]
        [--matching retrieval exhaustive] [--mapper incremental global] [--folder DIR]
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refdepth._pycolmap import pycolmap
from refdepth.evaluation import Table
from refdepth.ingest import PreparedPhoto, find_photos, prepare_photo, safe_stems
from refdepth.sfm.mapping import reconstruct
from refdepth.sfm.settings import SfmSettings
from refdepth.synthetic.street import Street, make_street


@dataclass
class Clock:
    """Wall and processor seconds of each step, by its label."""

    steps: dict[str, tuple[float, float]] = field(default_factory=dict)
    _label: str = "start"
    _since: tuple[float, float] = (0.0, 0.0)

    def __call__(self, label: str, done: float, total: float | None) -> None:
        """Progress of a reconstruction."""
        if label != self._label:
            now = _now()
            before = self.steps.get(self._label, (0.0, 0.0))
            spent = (now[0] - self._since[0], now[1] - self._since[1])
            self.steps[self._label] = (before[0] + spent[0], before[1] + spent[1])
            self._label, self._since = label, now

    def said(self, *labels: str) -> str:
        """Seconds of steps together."""
        found = [self.steps.get(label, (0.0, 0.0)) for label in labels]
        return f"{sum(wall for wall, _ in found):.0f} ({sum(cpu for _, cpu in found):.0f})"


def _now() -> tuple[float, float]:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)


def prepare(street: Street, folder: Path) -> list[PreparedPhoto]:
    """Renders the photos, where they are not there, and prepares them."""
    if not (folder / "given.done").exists():
        street.write_photos(folder / "given")
        (folder / "given.done").touch()
    (folder / "images").mkdir(exist_ok=True)
    found = find_photos(folder / "given").candidates
    stems = safe_stems([one.original for one in found])
    return [
        prepare_photo(one.path, folder / "images" / stems[one.original], original=one.original)
        for one in found
    ]


def error_m(street: Street, model: Path) -> str:
    """Median and largest distance of the placed cameras from their true places."""
    truth = dict(zip(street.names, street.centers, strict=True))
    placed = [i for i in pycolmap.Reconstruction(model).images.values() if i.has_pose]
    found = np.array([image.projection_center() for image in placed])
    exact = np.array([truth[image.name] for image in placed])
    fit = pycolmap.estimate_sim3d(found, exact)
    moved = fit.scale * found @ fit.rotation.matrix().T + fit.translation
    off = np.linalg.norm(moved - exact, axis=1)
    return f"{np.median(off):.2f} / {off.max():.2f}"


def matched_pairs(database: Path) -> int:
    """Pairs of photos that were matched."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM matches").fetchone()[0])


def main() -> None:
    """Runs every way and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--matching", nargs="+", default=["retrieval", "exhaustive"])
    parser.add_argument("--mapper", nargs="+", default=["incremental"])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    street = make_street(given.photos, width=width, height=height)
    columns = ("", "placed", "models", "pairs", "pairs and matching, s", "mapping, s", "off, m")
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        photos = prepare(street, folder)
        for matching in given.matching:
            clock = Clock()
            for mapper in given.mapper:
                settings = SfmSettings(
                    matching=matching, mapper=mapper, max_features=given.features
                )
                out = folder / matching
                clock.steps.pop("placing cameras", None)
                summary = reconstruct(folder / "images", photos, out, settings, progress=clock)
                clock("end", 0, None)
                row = (
                    f"{matching}, {mapper}",
                    str(len(summary.registered)),
                    str(1 + len(summary.other_models)),
                    str(matched_pairs(out / "database.db")),
                    clock.said("finding photos that look alike", "matching photos"),
                    clock.said("placing cameras"),
                    error_m(street, out / "sparse"),
                )
                print(*row, flush=True)
                rows.append(row)
    title = f"{given.photos} photos of {given.size}"
    print(Table(title=title, columns=columns, rows=tuple(rows)).to_text())


if __name__ == "__main__":
    main()
