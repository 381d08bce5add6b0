"""The published method alone (arXiv 2410.03861): coarse network, Adam, its terms."""
