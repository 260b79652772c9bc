"""From the tags people left on images to the labels a classifier learns."""
