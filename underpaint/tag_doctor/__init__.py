"""Proposals to mend the tags of a prepared set, which a person accepts or refuses."""
