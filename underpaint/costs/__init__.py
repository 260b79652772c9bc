"""The price of a network, part by part: bytes that a training step keeps, and work that it asks for."""
