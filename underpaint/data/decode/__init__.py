"""From the bytes of an image file to a tensor, and to the keywords that stand in it."""
