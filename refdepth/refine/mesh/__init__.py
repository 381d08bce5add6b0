"""The rendered mesh and the Gauss-Newton steps that move it."""
