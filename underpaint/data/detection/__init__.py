"""Images with annotated objects: COCO and LVIS files, their checks, and views with boxes and masks."""
