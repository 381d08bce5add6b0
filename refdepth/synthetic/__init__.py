"""Textured scenes with exact depth, for the demo, the tests and the benchmarks."""

from refdepth.synthetic.priors import PriorError
from refdepth.synthetic.rooms import Variant
from refdepth.synthetic.scene import SyntheticScene, SyntheticView, make_scene

__all__ = ["PriorError", "SyntheticScene", "SyntheticView", "Variant", "make_scene"]
