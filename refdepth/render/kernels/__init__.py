"""Compiled (numba) loops of the CPU renderer, imported only by `refdepth.render.cpu_ops`."""
