"""The audit of tags: shares of wrong and of missing ones with intervals, from a page of images that a person judges."""
