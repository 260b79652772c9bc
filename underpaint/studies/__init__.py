"""Studies: the paper's figures as commands (``underpaint study NAME``)."""
