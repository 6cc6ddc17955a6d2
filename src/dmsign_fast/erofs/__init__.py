"""Layers to EROFS images and their root hashes."""
