"""Prepared sets: tar shards, their index, and the order in which their images come."""
