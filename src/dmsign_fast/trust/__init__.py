"""Whom to believe: notation's configuration or files, and the verdict on a signature."""
