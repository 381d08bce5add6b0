"""Small panoramas that need no tracing: a coloured sphere, and a film of it turning."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 256, 128
_SPHERICAL_UUID = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
_SPHERICAL_XML = (
    '<?xml version="1.0"?><rdf:SphericalVideo'
    ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    ' xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
    "<GSpherical:Spherical>true</GSpherical:Spherical>"
    "<GSpherical:Stitched>true</GSpherical:Stitched>"
    "<GSpherical:StitchingSoftware>none</GSpherical:StitchingSoftware>"
    "<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
    "</rdf:SphericalVideo>"
)


def sphere(seed: int = 0) -> NDArray[np.uint8]:
    """A panorama (HEIGHT, WIDTH, 3) that closes over its sides; another for each seed."""
    rng = np.random.default_rng(seed)
    longitude = 2 * np.pi * (np.arange(WIDTH) + 0.5) / WIDTH
    latitude = np.pi * ((np.arange(HEIGHT) + 0.5) / HEIGHT - 0.5)[:, None]
    rays = np.stack(
        [
            np.cos(latitude) * np.sin(longitude),
            np.broadcast_to(np.sin(latitude), (HEIGHT, WIDTH)),
            -np.cos(latitude) * np.cos(longitude),
        ],
        axis=-1,
    )
    waves = rays @ rng.normal(0, 5, (3, 12)) + rng.uniform(0, 6, 12)
    colours = np.sin(waves) @ rng.normal(0, 25, (12, 3))
    return np.clip(127 + colours, 0, 255).astype(np.uint8)


def write_film(path: Path, panorama: NDArray[np.uint8], frames: int = 40, step: int = 4) -> Path:
    """A film of a panorama that turns by `step` pixels a frame."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "12", "preset": "ultrafast"}
        for number in range(frames):
            pixels = np.ascontiguousarray(np.roll(panorama, -step * number, axis=1))
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def say_spherical(path: Path) -> None:
    """Adds the box of Google's Spherical Video V1 RFC to the track of an MP4 whose `moov` comes
    last."""
    content = bytearray(path.read_bytes())
    box = _SPHERICAL_UUID + _SPHERICAL_XML.encode()
    box = struct.pack(">I4s", len(box) + 8, b"uuid") + box
    moov, trak = content.index(b"moov") - 4, content.index(b"trak") - 4
    assert moov + struct.unpack_from(">I", content, moov)[0] == len(content)
    end = trak + struct.unpack_from(">I", content, trak)[0]
    content[end:end] = box
    for place in (moov, trak):
        (size,) = struct.unpack_from(">I", content, place)
        struct.pack_into(">I", content, place, size + len(box))
    path.write_bytes(content)
