"""Structure from motion with pycolmap: cameras, poses and sparse points from prepared photos.

`refdepth.sfm.mapping` finds cameras and points from photos alone, `refdepth.sfm.model_entry`
starts from an existing COLMAP model, `refdepth.sfm.poses_entry` from known poses. Only settings and
results are imported here, so that reading a configuration does not load pycolmap.
"""

from refdepth.sfm.settings import CameraSharing, Mapper, Matching, SfmSettings
from refdepth.sfm.summary import SfmSummary

__all__ = ["CameraSharing", "Mapper", "Matching", "SfmSettings", "SfmSummary"]
