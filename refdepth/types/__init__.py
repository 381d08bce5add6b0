"""The nouns: cameras, views, scenes, depth maps, priors."""
