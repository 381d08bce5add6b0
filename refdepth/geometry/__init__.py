"""Grids, lenses, normals, and the mesh of a depth map."""
