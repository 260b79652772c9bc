"""Published datasets as they lie on disk, checked against their published counts."""
