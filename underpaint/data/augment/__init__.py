"""Strong augmentations of finetuning, drawn from the position of each sample."""
