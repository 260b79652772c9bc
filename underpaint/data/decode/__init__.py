"""Decoding of the bytes of an image file to a tensor, and reading of its embedded keywords."""
