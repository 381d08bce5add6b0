"""Triangle meshes as binary glTF 2.0 (GLB)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refdepth.io.json_text import to_json
from refdepth.types.mesh import TriangleMesh

_GLB_MAGIC, _GLB_VERSION, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_FLOAT, _USHORT, _UINT = 5126, 5123, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963
_HALF_TURN_ABOUT_X = [1.0, 0.0, 0.0, 0.0]
"""Quaternion (x, y, z, w): our y down, z forward to glTF's y up, z backwards."""


_QUARTER_TURN_ABOUT_X = [-(0.5**0.5), 0.0, 0.0, 0.5**0.5]
"""The same from z up."""


def write_glb(path: Path, mesh: TriangleMesh, *, z_up: bool = False) -> None:
    """Writes a mesh as one GLB file (glTF 2.0).

    glTF's vertex colours are linear light: 16 bits, converted from sRGB. Its y points up: the
    vertices stay as they are, and the node that holds the mesh turns them half a turn about x, or
    a quarter where the mesh's z points up already (`z_up`).
    glTF's positions are float32: a mesh with float64 ones is moved to the origin, and the node
    moves it back.
    """
    buffer = _Buffer()
    far = mesh.vertices.dtype == np.float64
    origin = mesh.vertices.mean(axis=0) if far else np.zeros(3)
    xyz = np.ascontiguousarray(mesh.vertices - origin, dtype="<f4")
    limits = {"min": xyz.min(axis=0).tolist(), "max": xyz.max(axis=0).tolist()}
    rgba = np.full((len(xyz), 4), 65535, "<u2")
    rgba[:, :3] = np.rint(linear(mesh.colors) * 65535)
    attributes = {
        "POSITION": buffer.add(xyz, "VEC3", _FLOAT, _VERTEX_BUFFER, **limits),
        "COLOR_0": buffer.add(rgba, "VEC4", _USHORT, _VERTEX_BUFFER, normalized=True),
    }
    normals = np.ascontiguousarray(mesh.normals, dtype="<f4")
    attributes["NORMAL"] = buffer.add(normals, "VEC3", _FLOAT, _VERTEX_BUFFER)
    indices = np.ascontiguousarray(mesh.triangles, dtype="<u4").ravel()
    node = {"mesh": 0, "rotation": _QUARTER_TURN_ABOUT_X if z_up else _HALF_TURN_ABOUT_X}
    if far:
        x, y, z = origin.tolist()
        node["translation"] = [x, z, -y] if z_up else [x, -y, -z]
    document = {
        "asset": {"version": "2.0", "generator": "refdepth"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [
            {
                "primitives": [
                    {
                        "attributes": attributes,
                        "indices": buffer.add(indices, "SCALAR", _UINT, _INDEX_BUFFER),
                        "material": 0,
                    }
                ]
            }
        ],
        "materials": [
            {
                "doubleSided": True,
                "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
            }
        ],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.content)}],
    }
    text = to_json(document).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(buffer.content)
    with path.open("wb") as file:
        file.write(struct.pack("<III", _GLB_MAGIC, _GLB_VERSION, length))
        file.write(struct.pack("<II", len(text), _JSON_CHUNK) + text)
        file.write(struct.pack("<II", len(buffer.content), _BINARY_CHUNK))
        file.write(buffer.content)


def linear(srgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Linear light in [0, 1] of 8-bit sRGB values (IEC 61966-2-1)."""
    value = srgb.astype(np.float64) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


class _Buffer:
    """The binary chunk as it grows, with the entries that describe its parts."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: NDArray[Any], kind: str, component: int, target: int, **extra: Any) -> int:
        """Appends an array; returns the index of its accessor."""
        raw = array.tobytes()
        view = {
            "buffer": 0,
            "byteOffset": len(self.content),
            "byteLength": len(raw),
            "target": target,
        }
        self.content += raw + b"\0" * (-len(raw) % 4)
        self.views.append(view)
        self.accessors.append(
            {
                "bufferView": len(self.views) - 1,
                "componentType": component,
                "count": len(array),
                "type": kind,
                **extra,
            }
        )
        return len(self.accessors) - 1
