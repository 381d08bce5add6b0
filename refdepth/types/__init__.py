"""The nouns: cameras, views, scenes, depth maps, clouds, meshes, priors."""
