"""Scenes with exact masks, composed of cut-out objects and photographs, as data for a detector."""
