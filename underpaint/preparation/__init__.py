"""Preparation of a user's images and metadata into a set of shards with index, vocabulary and audit."""
