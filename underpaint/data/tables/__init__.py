"""Tables about images and what stands in them: one reader, one rule of separators, one way to match paths."""
