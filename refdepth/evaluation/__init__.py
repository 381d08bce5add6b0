"""Comparing a reconstruction with ground truth: depth by stage, confidence, clouds.

Nothing is aligned silently: the scale and the alignment that were used stand in the results.
"""

from refdepth.evaluation.cloud import evaluate_cloud, true_cloud
from refdepth.evaluation.correspondence import (
    Scale,
    align_by_points,
    align_by_poses,
    scale_from_points,
)
from refdepth.evaluation.depth import LoadDepth, evaluate_depth
from refdepth.evaluation.tables import Table, cloud_table, depth_tables, view_table

__all__ = [
    "LoadDepth",
    "Scale",
    "Table",
    "align_by_points",
    "align_by_poses",
    "cloud_table",
    "depth_tables",
    "evaluate_cloud",
    "evaluate_depth",
    "scale_from_points",
    "true_cloud",
    "view_table",
]
