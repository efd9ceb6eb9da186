"""Layers that transformers does not have."""
