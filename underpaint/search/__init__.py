"""Search in images by words: a query ranked by the towers of a run of LiT, and a page that does it offline."""
