"""Folders of a user's images, with the tables and sidecars beside them."""
