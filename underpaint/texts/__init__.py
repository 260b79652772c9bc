"""Texts to token ids: tokenizers, and how they are made."""
