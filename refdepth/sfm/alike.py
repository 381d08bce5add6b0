"""Which photos look alike: image retrieval with a vocabulary of visual words (bag of features).

The words are clusters of a sample of the photos' own SIFT descriptors, so that nothing needs to be
downloaded. What runs in here is long; `refdepth.sfm.native` runs it in a child process.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from refdepth._pycolmap import pycolmap

_LEAST_WORDS, _MOST_WORDS = 1024, 16384
_WORDS_PER_PHOTO = 8
_SAMPLES_PER_WORD = 10
_ROUNDS, _ITERATIONS = 1, 20
_FEATURES = 2048
"""Features of a photo, largest first, that it is found by: what 10,000 photos take stays near a
gigabyte."""


def rank(
    database: Path, *, vocabulary: Path | None, folder: Path, count: int, seed: int
) -> dict[str, list[str]]:
    """For each photo of `database` the names of up to `count` others that look most like it, best
    first. Without a `vocabulary` (a file of pycolmap's `VisualIndex`) one is made, in `folder`.

    On one thread: on several, photos that look equally alike change places from run to run.
    """
    pycolmap.set_random_seed(seed)
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        if vocabulary is None:
            sample = sample_descriptors(opened, sorted(names), _words(len(names)), seed)
            if not len(sample):
                return {}
            vocabulary = folder / "vocabulary.bin"
            train(sample, min(_words(len(names)), len(sample)), vocabulary)
        options = pycolmap.VocabTreePairingOptions()
        options.vocab_tree_path = vocabulary
        options.num_images = count + 1  # the photo itself comes first
        options.max_num_features = _FEATURES
        options.num_threads = 1
        found = pycolmap.VocabTreePairGenerator(options, opened).all_pairs()
    ranked: dict[str, list[str]] = {name: [] for name in names.values()}
    for image, other in found:
        if image != other:
            ranked[names[image]].append(names[other])
    return {name: others[:count] for name, others in ranked.items()}


def sample_descriptors(
    database: pycolmap.Database, images: list[int], words: int, seed: int
) -> NDArray[np.float32]:
    """Descriptors (N, 128) enough for so many words, as many of each photo, drawn at random; one
    photo's are in memory at a time."""
    each = math.ceil(words * _SAMPLES_PER_WORD / max(1, len(images)))
    rng = np.random.default_rng([seed, 11])
    drawn = [np.zeros((0, 128), np.float32)]
    for image in images:
        if database.exists_descriptors(image):
            data = database.read_descriptors(image).data
            rows = rng.permutation(len(data))[:each]
            drawn.append(data[np.sort(rows)].astype(np.float32))
    return np.concatenate(drawn)


def train(sample: NDArray[np.float32], words: int, path: Path) -> None:
    """Writes a vocabulary of so many words, clusters of `sample` (N, 128), to `path`."""
    options = pycolmap.VisualIndex.BuildOptions()
    options.num_visual_words = words
    options.num_rounds, options.num_iterations = _ROUNDS, _ITERATIONS
    options.num_threads = 1
    index = pycolmap.VisualIndex.create(sample.shape[1], 64)
    descriptors = pycolmap.FeatureDescriptorsFloat(
        type=pycolmap.FeatureExtractorType.SIFT, data=sample
    )
    index.build(options, descriptors)
    index.write(path)


def _words(photos: int) -> int:
    words: int = 2 ** math.ceil(math.log2(max(1, photos * _WORDS_PER_PHOTO)))
    return min(max(words, _LEAST_WORDS), _MOST_WORDS)
