"""From what somebody owns, images with words about them, to a prepared set: shards, index, vocabulary and audit."""
