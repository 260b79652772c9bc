"""Tags that people gave to images, and the labels that a classifier learns from them."""
