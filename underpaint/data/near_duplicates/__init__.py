"""Near duplicates of evaluation images: found by perceptual hashes, confirmed by pixels, left out."""
