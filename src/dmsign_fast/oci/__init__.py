"""Descriptors, manifests, and the stores that hold them: layouts and registries."""
