"""Captions of images, as the text side of pairs."""
