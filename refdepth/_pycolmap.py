"""The one door to pycolmap.

Importing pycolmap before Pillow and then saving a PNG corrupted the heap (pycolmap 4.2.1 with
Pillow 13.0.0; cause unknown). Everything here imports pycolmap from this module, which loads
Pillow's codecs first.
"""

from PIL import Image

Image.init()

import pycolmap  # noqa: E402

__all__ = ["pycolmap"]
