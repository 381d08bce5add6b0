"""Textured scenes with exact depth, for the demo, the tests and the benchmarks."""

from refdepth.synthetic.panoramas import SyntheticPanorama, make_panoramas, write_panoramas
from refdepth.synthetic.priors import PriorError, Spoiling, simulate_prior, spoil_prior
from refdepth.synthetic.rooms import Variant
from refdepth.synthetic.scene import SyntheticScene, make_scene
from refdepth.synthetic.view import SyntheticView

__all__ = [
    "PriorError",
    "Spoiling",
    "SyntheticPanorama",
    "SyntheticScene",
    "SyntheticView",
    "Variant",
    "make_panoramas",
    "make_scene",
    "simulate_prior",
    "spoil_prior",
    "write_panoramas",
]
