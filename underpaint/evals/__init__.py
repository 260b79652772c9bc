"""Scores of frozen features (linear, lowshot, knn) and of finished models (accuracy, heldout), and their statistics."""
