"""Detections as an annotation file in COCO's format: images, categories, and annotations with scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from underpaint.evals.detection.detections import ImageObjects, in_coco_format


def coco_content(classes: Sequence[str], images: Iterable[tuple[str, ImageObjects]]) -> dict[str, object]:
    """The content of the file; images have ids from 1 on in their order, categories in that of ``classes``.

    Images that cannot be read stand in a list ``problems`` that COCO does not have.
    """
    listed: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    problems: list[dict[str, object]] = []
    for name, answer in images:
        if answer["problem"]:
            problems.append({"file_name": name, "problem": answer["problem"]})
            continue
        height, width = answer["size"]
        listed.append({"id": len(listed) + 1, "file_name": name, "height": height, "width": width})
        for each in answer["objects"]:
            area = each["bbox"][2] * each["bbox"][3]
            detection = in_coco_format(each, len(listed), each["label"] + 1)
            annotations.append({"id": len(annotations) + 1, **detection, "area": area, "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": listed, "categories": categories, "annotations": annotations, "problems": problems}
