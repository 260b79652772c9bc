"""Ids of the tokens that stand for no piece of text, as fairseq numbers them; every tokenizer here has these."""

START, PAD, END, UNKNOWN = 0, 1, 2, 3
