"""One differentiable renderer interface and its backends."""
