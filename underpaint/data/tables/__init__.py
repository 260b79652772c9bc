"""Tables about images: one reader, one rule of separators, one way to match paths."""
