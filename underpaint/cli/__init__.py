"""The command line: one file per verb with its arguments, its examples and its call; ``main`` runs them."""
