"""Videos with classes: lists of them, frames decoded by FFmpeg, clips, and streams of batches."""
