"""A folder of one's own images, with the tables and sidecars beside them."""
