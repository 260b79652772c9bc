"""From files to batches: what the images are (sources), in which order they come (order), and how (loader)."""
