"""Textured scenes with exact depth, for the demo, the tests and the benchmarks."""

from refdepth.synthetic.priors import PriorError, Spoiling, spoil_prior
from refdepth.synthetic.rooms import Variant
from refdepth.synthetic.scene import SyntheticScene, make_scene
from refdepth.synthetic.view import SyntheticView

__all__ = [
    "PriorError",
    "Spoiling",
    "SyntheticScene",
    "SyntheticView",
    "Variant",
    "make_scene",
    "spoil_prior",
]
