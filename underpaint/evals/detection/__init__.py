"""Evaluation of detectors: detections in COCO's format, and their average precision by COCO's and LVIS's rules."""
