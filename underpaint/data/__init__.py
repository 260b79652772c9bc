"""Data from files to batches: the images (sources), their order (order), and their loading (loader)."""
