"""The one door to pycolmap.

Importing pycolmap before Pillow and then saving a PNG corrupted the heap (pycolmap 4.2.1 with
Pillow 13.0.0; cause unknown). Everything here imports pycolmap from this module, which loads
Pillow's codecs first. pycolmap also takes over SIGTERM to print a stack trace and abort; the
handler that was there before is put back.
"""

import contextlib
import signal

from PIL import Image

Image.init()

import pycolmap  # noqa: E402

with contextlib.suppress(ValueError, TypeError):  # not the main thread; not a Python handler
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))

__all__ = ["pycolmap"]
