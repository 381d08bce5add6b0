"""What nerfstudio's data parser asks of `transforms.json` with depth."""

from __future__ import annotations

from typing import Any

NUMBER, MATRIX = {"type": "number"}, {"type": "array", "minItems": 4, "maxItems": 4}
TRANSFORMS_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["camera_model", "frames", "applied_transform", "depth_unit_scale_factor"],
    "properties": {
        "camera_model": {"enum": ["PINHOLE", "OPENCV", "SIMPLE_PINHOLE"]},
        "applied_transform": {"type": "array", "minItems": 3, "maxItems": 3, "items": MATRIX},
        "depth_unit_scale_factor": {"type": "number", "exclusiveMinimum": 0},
        "ply_file_path": {"type": "string"},
        "frames": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["file_path", "transform_matrix", "depth_file_path"],
                "properties": {
                    **dict.fromkeys(("fl_x", "fl_y", "cx", "cy"), NUMBER),
                    **{key: {"type": "integer"} for key in ("w", "h")},
                    "transform_matrix": {**MATRIX, "items": {**MATRIX, "items": NUMBER}},
                },
            },
        },
    },
}
