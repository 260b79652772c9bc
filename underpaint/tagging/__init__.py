"""Predicted tags written back beside a user's images, and taken back again."""
