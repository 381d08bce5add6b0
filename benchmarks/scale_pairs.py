"""Choosing pairs among up to 10,000 photos: CPU seconds, memory and what is found.

Made-up SIFT descriptors instead of photos: a walk past houses of a few kinds, of whose descriptors
most are those of every house of the kind and some are the place's own, all with noise. True
neighbours are the photos within five places of the walk.

    python benchmarks/scale_pairs.py [--photos 300 1000 3000 10000] [--features 500] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

import numpy as np
from machine import machine
from numpy.typing import NDArray

from refdepth._pycolmap import pycolmap
from refdepth.evaluation import Table
from refdepth.sfm.chosen_pairs import choose_pairs
from refdepth.sfm.pairs import Matching, Pair, PairPlan, spatial_pairs
from refdepth.sfm.settings import SfmSettings

STEPS_A_HOUSE, KINDS = 20, 6
"""Photos of the walk past one house; kinds of houses."""
OWN_SHARE = 0.3
"""Of a photo's descriptors, those that no other house has."""
SEEN_FOR = 30
"""Photos of the walk in a row that see a thing."""
NOISE = 0.35
"""Of a descriptor's length."""
NEAR = 5
GPS_NOISE = 2.0
"""Of the distance from a photo to the next."""


class Walk:
    """What the photos of a walk see: things numbered along it, each with a descriptor."""

    def __init__(self, features: int, seed: int = 0) -> None:
        self._features, self._seed = features, seed
        self._each = max(1, features // SEEN_FOR)  # things that come into view with each photo

    def descriptors(self, photo: int) -> NDArray[np.uint8]:
        """Those of one photo (N, 128), as SIFT has them."""
        rng = np.random.default_rng([self._seed, 1, photo])
        seen = [self._things(step) for step in range(photo, photo + SEEN_FOR)]
        made = np.concatenate(seen)[: self._features]
        made = np.abs(
            made + NOISE * np.linalg.norm(made[0]) / 128**0.5 * rng.normal(size=made.shape)
        )
        made *= 512 / np.linalg.norm(made, axis=1, keepdims=True)
        return made.clip(0, 255).astype(np.uint8)

    def _things(self, step: int) -> NDArray[np.float64]:
        """What comes into view at a step (each, 128)."""
        house, place = divmod(step, STEPS_A_HOUSE)
        kind = int(np.random.default_rng([self._seed, 2, house]).integers(KINDS))
        shared = np.random.default_rng([self._seed, 3, kind, place]).gamma(
            0.6, size=(self._each, 128)
        )
        own = np.random.default_rng([self._seed, 4, step]).gamma(0.6, size=(self._each, 128))
        is_own = np.arange(self._each) < OWN_SHARE * self._each
        things: NDArray[np.float64] = np.where(is_own[:, None], own, shared)
        return things / np.linalg.norm(things, axis=1, keepdims=True)


def write_database(path: Path, photos: int, walk: Walk) -> list[str]:
    """A COLMAP database with a walk's descriptors; the photos' names, in its order."""
    # In no order: neighbours by name are none by place.
    numbers = np.random.default_rng(7).permutation(photos)
    names = [f"{number:05d}.jpg" for number in numbers]
    with pycolmap.Database.open(path) as database:
        camera = pycolmap.Camera.create_from_model_name(1, "SIMPLE_PINHOLE", 300.0, 320, 240)
        camera_id = database.write_camera(camera)
        with pycolmap.DatabaseTransaction(database):
            for place, name in enumerate(names):
                image_id = database.write_image(pycolmap.Image(name=name, camera_id=camera_id))
                data = walk.descriptors(place)
                rng = np.random.default_rng([8, place])
                keypoints = np.ones((len(data), 4), np.float32)
                keypoints[:, :2] = rng.uniform(0, 240, (len(data), 2))
                database.write_keypoints(image_id, keypoints)
                found = pycolmap.FeatureDescriptors(
                    type=pycolmap.FeatureExtractorType.SIFT, data=data
                )
                database.write_descriptors(image_id, found)
    return names


def recall(pairs: list[Pair], names: list[str]) -> float:
    """Share of the pairs of true neighbours that are among `pairs`."""
    place = {name: number for number, name in enumerate(names)}
    found = sum(abs(place[a] - place[b]) <= NEAR for a, b in pairs)
    return found / sum(len(names) - apart for apart in range(1, NEAR + 1))


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, nargs="+", default=[300, 1000, 3000, 10000])
    parser.add_argument("--features", type=int, default=500)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settings = SfmSettings()
    columns = ("photos", "by looks, s", "MB", "pairs", "of all", "true ones found", "by GPS, s")
    rows, results = [], {}
    for photos in sorted(args.photos):  # the children's peak is that of the largest so far
        with tempfile.TemporaryDirectory(prefix="scale-pairs-") as folder:
            database = Path(folder) / "database.db"
            names = write_database(database, photos, Walk(args.features))
            plan = PairPlan(
                matching=Matching.RETRIEVAL,
                known=(),
                alike=dict.fromkeys(names, settings.neighbours),
            )
            began = _cpu_seconds()
            pairs = choose_pairs(database, plan, settings, seed=0)
            looking = _cpu_seconds() - began
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
        places = np.random.default_rng(9).normal(scale=GPS_NOISE, size=(photos, 2))
        places[:, 0] += np.arange(photos)
        began = _cpu_seconds()
        spatial_pairs(names, places, settings.neighbours)
        located = _cpu_seconds() - began
        share = len(pairs) / (photos * (photos - 1) / 2)
        results[photos] = {
            "seconds": looking,
            "mb": peak,
            "pairs": len(pairs),
            "recall": recall(pairs, names),
            "gps_seconds": located,
        }
        rows.append(
            (
                str(photos),
                f"{looking:.1f}",
                f"{peak:.0f}",
                str(len(pairs)),
                f"{share:.2%}",
                f"{results[photos]['recall']:.1%}",
                f"{located:.2f}",
            )
        )
        print(*rows[-1], flush=True)
    title = f"{args.features} descriptors a photo, {settings.neighbours} neighbours asked for"
    print(Table(title=title, columns=columns, rows=tuple(rows)).to_text())
    if args.json is not None:
        told = {"machine": machine(), "arguments": vars(args), "results": results}
        args.json.write_text(json.dumps(told, indent=1, default=str))


if __name__ == "__main__":
    main()
