"""Compiled (numba) loops of the CPU renderer, imported only by `refdepth.render.cpu_ops`.

numba keeps compiled code in `__pycache__` and renews it when the kernel's own file changes, not
when a helper in another file does: after editing `geometry`, remove `__pycache__` here.
"""
