"""The files in which runs and studies leave their results: their fields, one reader and one writer for each."""
