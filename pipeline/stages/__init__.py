"""One module a stage; `pipeline.registry` has their order."""
