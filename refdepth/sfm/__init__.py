"""Structure from motion with pycolmap: cameras, poses and sparse points from prepared photos.

`refdepth.sfm.mapping` finds cameras and points from photos alone, `refdepth.sfm.model_entry`
starts from an existing COLMAP model, `refdepth.sfm.poses_entry` from known poses. Nothing is
imported here: reading a configuration does not load pycolmap, nor its child processes settings.
"""
