"""The parts of the detector against torchvision's, and against formulas and loops written anew."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou, roi_align
from torchvision.ops.poolers import LevelMapper

from underpaint.models.detector.cascade import Cascade, Regions, box_coder, match, sample_regions, sigmoid_loss
from underpaint.models.detector.config import DetectorConfig
from underpaint.models.detector.detector import Detector, Draws
from underpaint.models.detector.federated import counted_classes
from underpaint.models.detector.initial_weights import initialise_detector
from underpaint.models.detector.mask_head import MaskHead, within_masks
from underpaint.models.detector.proposals import ProposalNetwork
from underpaint.models.detector.pyramid import FeaturePyramid
from underpaint.models.detector.regions import anchors_at, draw_of, level_of, pool_regions, sample_balanced
from underpaint.models.detector.targets import Objects
from underpaint.models.vit import ViTConfig

CLASSES = 3
SIDE = 64
ENCODER = ViTConfig(size=(SIDE, SIDE), patch=8, width=16, depth=2, heads=2, final_norm=False)
CONFIG = DetectorConfig(
    window=4,
    global_blocks=(1,),
    channels=8,
    hidden=16,
    convolutions=1,
    anchor_sides=(8.0, 16.0, 32.0, 48.0, 64.0),
    sampled_anchors=32,
    proposals_per_level=(40, 30),
    proposals=25,
    sampled_regions=16,
)
STRIDES = CONFIG.strides(ENCODER)
EXTENTS = [(SIDE, SIDE), (SIDE - 16, SIDE - 4)]


def random_levels(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, CONFIG.channels, SIDE // s, SIDE // s, generator=generator) for s in STRIDES]


def random_boxes(count: int, seed: int = 0) -> Tensor:
    corner = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * SIDE
    low, high = corner.amin(dim=1), corner.amax(dim=1)
    return torch.cat([low, torch.maximum(high, low + 2)], dim=1)


def random_objects(count: int, seed: int = 0, *, masks: bool = True) -> Objects:
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.rand(count, 112, 112, generator=generator) < 0.5).to(torch.uint8)
    return Objects(random_boxes(count, seed), torch.arange(count) % CLASSES, drawn if masks else None)


def perturbed(network: nn.Module, std: float = 0.3) -> nn.Module:
    """Weights large enough that every layer matters."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return network


def test_pyramid_has_the_strides_of_vitdet() -> None:
    levels = FeaturePyramid(16, 8)(torch.randn(2, 16, 8, 12))
    assert [tuple(level.shape) for level in levels] == [(2, 8, 8 * 4 // f, 12 * 4 // f) for f in (1, 2, 4, 8, 16)]
    assert torch.equal(levels[4], levels[3][:, :, ::2, ::2])
    assert levels[0].mean(dim=1).abs().max() < 1e-5  # each place is normed over its channels


def test_anchors_are_those_of_torchvision_where_it_does_not_round() -> None:
    sides, ratios = (16, 32), (0.25, 1.0, 4.0)  # all sides are even numbers
    generator = AnchorGenerator(sizes=tuple((side,) for side in sides), aspect_ratios=(ratios,) * 2)
    maps = [torch.zeros(1, 1, 8, 6), torch.zeros(1, 1, 4, 3)]
    theirs = generator(ImageList(torch.zeros(1, 3, 64, 48), [(64, 48)]), maps)[0]
    device = torch.device("cpu")
    ours = [
        anchors_at((m.shape[2], m.shape[3]), stride, side=side, ratios=ratios, device=device)
        for m, stride, side in zip(maps, (8, 16), sides, strict=True)
    ]
    assert torch.equal(torch.cat(ours), theirs)


def test_anchors_have_their_area_and_ratio() -> None:
    boxes = anchors_at((1, 2), 4, side=9.0, ratios=(0.5, 2.0), device=torch.device("cpu"))
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    torch.testing.assert_close(width * height, torch.full((4,), 81.0))
    torch.testing.assert_close(height / width, torch.tensor([0.5, 2.0, 0.5, 2.0]))
    torch.testing.assert_close((boxes[:, 0] + boxes[:, 2]) / 2, torch.tensor([0.0, 0.0, 4.0, 4.0]))


def test_levels_of_regions_are_those_of_feature_pyramid_networks() -> None:
    boxes = random_boxes(200) * 20
    theirs = LevelMapper(2, 5)([boxes])
    assert torch.equal(level_of(boxes, middle_stride=16, count=4), theirs)
    assert set(theirs.tolist()) == {0, 1, 2, 3}


def test_pooled_regions_are_those_of_one_box_at_a_time() -> None:
    levels, boxes = random_levels()[:4], [random_boxes(9) * 1.5, random_boxes(4, seed=1)]
    pooled = pool_regions(levels, boxes, strides=STRIDES[:4], side=3)
    number = 0
    for image, part in enumerate(boxes):
        for box in part:
            size = math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))
            level = min(3, max(0, math.floor(2 + math.log2(size / (14 * STRIDES[2])))))
            expected = roi_align(
                levels[level][image : image + 1], [box[None]], 3, 1 / STRIDES[level], sampling_ratio=0, aligned=True
            )
            torch.testing.assert_close(pooled[number], expected[0])
            number += 1
    empty = pool_regions(levels, [boxes[0][:0]] * 2, strides=STRIDES[:4], side=3)
    assert empty.shape == (0, CONFIG.channels, 3, 3)


def test_samples_take_positive_regions_first_up_to_their_share() -> None:
    draw = torch.rand(100, generator=torch.Generator().manual_seed(0))
    many, few = torch.arange(40), torch.arange(3)
    rest = torch.arange(40, 100)
    positive, negative = sample_balanced(many, rest, count=32, positive_share=0.25, draw=draw)
    assert positive.tolist() == sorted(range(40), key=lambda i: float(draw[i]))[:8]
    assert negative.tolist() == sorted(range(40, 100), key=lambda i: float(draw[i]))[:24]
    positive, negative = sample_balanced(few, rest, count=32, positive_share=0.25, draw=draw)
    assert sorted(positive.tolist()) == [0, 1, 2]
    assert len(negative) == 29


class FixedAnchors(nn.Module):
    """Our anchors, where torchvision's network asks for its own."""

    def __init__(self, anchors: Tensor) -> None:
        super().__init__()
        self.boxes = anchors

    def forward(self, images: ImageList, levels: list[Tensor]) -> list[Tensor]:
        return [self.boxes] * len(images.image_sizes)


@pytest.mark.parametrize("training", [False, True])
def test_proposals_are_those_of_torchvision(training: bool) -> None:
    network = ProposalNetwork(CONFIG, STRIDES).train(training)
    perturbed(network, 0.05)
    levels = random_levels()
    ours, scored = network(levels, EXTENTS)
    theirs = RegionProposalNetwork(
        FixedAnchors(scored.anchors),  # pyright: ignore[reportArgumentType]
        network.head,
        *(0.7, 0.3, 32, 0.5),
        {"training": 40, "testing": 30},
        {"training": 25, "testing": 25},
        0.7,
    ).train(training)
    images = ImageList(torch.zeros(2, 3, SIDE, SIDE), EXTENTS)
    targets = [{"boxes": random_boxes(5)}, {"boxes": random_boxes(2, seed=1)}]
    boxes, _ = theirs(images, dict(enumerate(levels)), targets)  # pyright: ignore[reportArgumentType]
    assert [len(part) for part in ours] == [25, 25]
    for mine, other in zip(ours, boxes, strict=True):
        torch.testing.assert_close(mine, other)


def test_loss_of_proposals_is_that_of_torchvision_with_l1() -> None:
    """Against its function on the same sample of each image, but for its smooth L1."""
    network = ProposalNetwork(replace(CONFIG, sampled_anchors=64), STRIDES)
    perturbed(network, 0.05)
    objects = [random_objects(4), random_objects(2, seed=1)]
    _, scored = network(random_levels(), EXTENTS)
    position = torch.tensor([7, 8])
    losses = network.loss(scored, objects, key=3, position=position)
    anchors = scored.anchors
    for image, each in enumerate(objects):
        chosen: list[tuple[Tensor, Tensor]] = []

        def sampler(labels: list[Tensor], image: int = image, chosen: list[tuple[Tensor, Tensor]] = chosen):
            draw = draw_of(3, position[image], len(anchors))
            pair = [torch.where(labels[0] == value)[0] for value in (1, 0)]
            pair = sample_balanced(pair[0], pair[1], count=64, positive_share=0.5, draw=draw)
            chosen.append(pair)
            masks = [torch.zeros(len(anchors), dtype=torch.uint8).index_fill(0, index, 1) for index in pair]
            return [masks[0]], [masks[1]]

        network.fg_bg_sampler = sampler  # pyright: ignore[reportAttributeAccessIssue]
        labels, matched = network.assign_targets_to_anchors([anchors], [{"boxes": each.boxes}])
        targets = network.box_coder.encode(matched, [anchors])
        flat = (scored.scores[image][:, None], scored.offsets[image])
        of_scores, of_boxes = network.compute_loss(*flat, labels, list(targets))
        difference = (flat[1] - targets[0])[chosen[0][0]].abs()
        smooth = torch.where(difference < 1 / 9, difference.square() * 4.5, difference - 1 / 18)
        torch.testing.assert_close(of_boxes, smooth.sum() / 64)
        torch.testing.assert_close(losses[image], of_scores + difference.sum() / 64)


def test_detections_of_one_stage_are_those_of_torchvision() -> None:
    """The same head in torchvision's RoIHeads, whose offsets are per class and whose class 0 is the background."""
    config = replace(CONFIG, cascade=(0.5,), score_threshold=0.3, detections=10, masks=False)
    torch.manual_seed(0)  # other weights may detect too little
    cascade = Cascade(config, CLASSES).eval()
    perturbed(cascade, 0.1)
    stage = cascade.stages[0]
    levels = random_levels()
    pool = partial(pool_regions, levels[:4], strides=STRIDES[:4], side=7)
    proposals = [random_boxes(30), random_boxes(20, seed=1)]

    class Predictor(nn.Module):
        def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
            scores = stage.cls_score(hidden)  # pyright: ignore[reportCallIssue]
            return scores.roll(1, dims=1), stage.bbox_pred(hidden).repeat(1, CLASSES + 1)  # pyright: ignore[reportCallIssue]

    class Pooler(nn.Module):
        def forward(self, features: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Tensor:
            return pool(boxes)

    heads = RoIHeads(
        *(Pooler(), stage.features, Predictor()),  # pyright: ignore[reportArgumentType]
        *(0.5, 0.5, 16, 0.25, (10.0, 10.0, 5.0, 5.0), 0.3, 0.5, 10),
    ).eval()
    with torch.no_grad():
        theirs, _ = heads({}, proposals, EXTENTS)
        ours = cascade.detect(pool, proposals, EXTENTS)
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine.boxes) > 3
        torch.testing.assert_close(mine.boxes, other["boxes"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mine.scores, other["scores"])
        assert torch.equal(mine.classes, other["labels"] - 1)


def test_loss_of_the_cascade_is_that_of_a_naive_loop() -> None:
    """Three stages, each matched anew with the boxes of the one before; scores by softmax, offsets by L1."""
    cascade = Cascade(CONFIG, CLASSES)
    perturbed(cascade, 0.05)
    pool = partial(pool_regions, random_levels()[:4], strides=STRIDES[:4], side=7)
    objects = [random_objects(3), random_objects(2, seed=1)]
    regions = [
        match(torch.cat([random_boxes(12, seed=i), each.boxes + 0.5]), each, overlap=0.5, background=CLASSES)
        for i, each in enumerate(objects)
    ]
    losses = cascade.loss(pool, regions, objects, extents=EXTENTS, counted=[None] * 3)
    boxes = [part.boxes for part in regions]
    expected = torch.zeros(2)
    for index, overlap in enumerate((0.5, 0.6, 0.7)):
        weights = torch.tensor([10.0, 10.0, 5.0, 5.0]) * (index + 1)
        logits, offsets = cascade.stages[index](pool(boxes))
        moved = box_coder(index).decode_single(offsets.detach(), torch.cat(boxes))
        first = 0
        for image, part in enumerate(boxes):
            here = slice(first, first + len(part))
            first += len(part)
            best, which = box_iou(part, objects[image].boxes).max(dim=1)
            total = torch.zeros(())
            for r, box in enumerate(part):
                label = int(objects[image].classes[which[r]]) if best[r] >= overlap else CLASSES
                total = total - logits[here][r].log_softmax(dim=0)[label]
                if label < CLASSES:
                    goal, size = objects[image].boxes[which[r]], box[2:] - box[:2]
                    centre, goal_size = (box[:2] + box[2:]) / 2, goal[2:] - goal[:2]
                    shift = ((goal[:2] + goal[2:]) / 2 - centre) / size
                    target = torch.cat([shift, (goal_size / size).log()]) * weights
                    total = total + (offsets[here][r] - target).abs().sum()
            expected[image] += total.detach() / len(part)
            high, wide = EXTENTS[image]
            after = moved[here].clamp(min=0)
            after = torch.minimum(after, torch.tensor([wide, high, wide, high]))
            boxes[image] = after[((after[:, 2:] - after[:, :2]) > 0).all(dim=1)]
    torch.testing.assert_close(losses.detach(), expected, rtol=1e-4, atol=1e-4)


def test_gradient_of_the_features_is_divided_by_the_stages() -> None:
    """Against the sum of three one-stage cascades with the same heads on the same regions."""
    objects = [random_objects(3)]
    regions = [match(random_boxes(12), objects[0], overlap=0.5, background=CLASSES)]
    cascade = Cascade(replace(CONFIG, cascade=(0.5, 0.5, 0.5)), CLASSES)
    with torch.no_grad():
        for stage in cascade.stages:
            nn.init.zeros_(stage.bbox_pred.weight)  # pyright: ignore
            nn.init.zeros_(stage.bbox_pred.bias)  # pyright: ignore  boxes stay where they are
    level = torch.randn(1, 8, 32, 32, requires_grad=True)
    single = Cascade(replace(CONFIG, cascade=(0.5,)), CLASSES)

    def gradient(network: Cascade) -> Tensor:
        def pool(boxes: list[Tensor]) -> Tensor:
            return roi_align(level, boxes, 7, 0.5)

        extents, counted = [(1000.0, 1000.0)], [None] * len(network.stages)
        loss = network.loss(pool, regions, objects, extents=extents, counted=counted)  # pyright: ignore[reportArgumentType]
        return torch.autograd.grad(loss.sum(), level)[0]

    total = gradient(cascade)
    parts = torch.zeros_like(total)
    for index, stage in enumerate(cascade.stages):
        single.stages[0].load_state_dict(stage.state_dict())
        single.coders = [box_coder(index)]
        parts += gradient(single)
    torch.testing.assert_close(total, parts / 3)


def test_regions_of_the_first_stage_contain_the_objects() -> None:
    objects = random_objects(3)
    regions = sample_regions(
        random_boxes(40), objects, config=CONFIG, background=CLASSES, key=1, position=torch.tensor(4)
    )
    assert len(regions.boxes) == 16
    assert 1 <= int((regions.classes < CLASSES).sum()) <= 4
    again = sample_regions(
        random_boxes(40), objects, config=CONFIG, background=CLASSES, key=1, position=torch.tensor(5)
    )
    assert not torch.equal(regions.boxes, again.boxes)


def test_sigmoid_loss_is_the_sum_of_cross_entropies_of_counted_classes() -> None:
    logits = torch.randn(5, CLASSES + 1, generator=torch.Generator().manual_seed(0))
    labels, counted = torch.tensor([0, 2, 3, 3, 1]), torch.tensor([1.0, 0.0, 1.0])
    expected = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        for k in (0, 2):
            p = 1 / (1 + math.exp(-float(row[k])))
            expected -= math.log(p if k == label else 1 - p)
    assert float(sigmoid_loss(logits, labels, counted)) == pytest.approx(expected, rel=1e-5)


def test_counted_classes_are_drawn_as_by_sequential_multinomial() -> None:
    """Shares over many images against torch.multinomial without repetition, as detectron2 draws."""
    frequency = torch.tensor([100.0, 1, 25, 0, 400, 9, 49, 4])
    present = torch.tensor([1, 1])
    generator = torch.Generator().manual_seed(0)
    times = 1500
    draws = torch.rand(times, 8, generator=generator)
    ours = torch.stack([counted_classes(present, frequency, count=5, draw=draw) for draw in draws])
    assert (ours.sum(dim=1) == 4).all()  # and the background
    assert (ours[:, 1] == 1).all()
    assert not ours[:, 3].any()
    weight = frequency.sqrt()
    weight[1] = 0
    theirs = torch.multinomial(weight.expand(times, -1), 3, generator=generator)
    share = torch.zeros(8).index_add(0, theirs.flatten(), torch.ones(theirs.numel())) / times
    share[1] = 1
    assert (ours.mean(dim=0) - share).abs().max() < 4 * math.sqrt(0.25 * 2 / times)


def test_counted_classes_are_at_most_all() -> None:
    frequency = torch.tensor([3.0, 0, 1])
    every = counted_classes(torch.tensor([1]), frequency, count=50, draw=torch.rand(3))
    assert every.tolist() == [1, 1, 1]
    none = counted_classes(torch.tensor([], dtype=torch.int64), frequency, count=1, draw=torch.rand(3))
    assert none.tolist() == [0, 0, 0]


def test_masks_over_boxes_are_learnt_as_masks_of_the_image() -> None:
    """torchvision's targets of masks as large as the image, from smooth shapes whose masks over boxes are exact."""
    y, x = torch.meshgrid(torch.arange(448), torch.arange(448), indexing="ij")
    whole = torch.stack([((x - 224) ** 2 + (y - 208) ** 2 < 90**2), (x + y > 450)]).to(torch.uint8)
    around = torch.tensor([[112.0, 96.0, 336.0, 320.0], [0.0, 0.0, 448.0, 448.0]])
    over = torch.stack([whole[0, 96:320:2, 112:336:2], whole[1, ::4, ::4]])
    boxes = torch.tensor([[120.0, 90.0, 330.0, 300.0], [30.0, 10.0, 440.0, 430.0]])
    matched = torch.tensor([0, 1])
    logits = torch.randn(2, CLASSES, 28, 28, generator=torch.Generator().manual_seed(0)) * 4
    classes = torch.tensor([0, 2])
    theirs = maskrcnn_loss(logits, [boxes - 0.5], [whole], [classes], [matched])
    inside = within_masks(boxes, around[matched], side=112)
    ours = maskrcnn_loss(logits, [inside], [over], [classes], [matched])
    assert float(ours) == pytest.approx(float(theirs), rel=0.01)
    head = MaskHead(CONFIG, CLASSES)
    head.forward = lambda pooled: logits  # pyright: ignore[reportAttributeAccessIssue]
    regions = Regions(torch.cat([boxes, boxes]), torch.tensor([0, 2, CLASSES, CLASSES]), torch.tensor([0, 1, 0, 0]))
    of_images = head.loss(lambda boxes: boxes[0], [regions], [Objects(around, classes, over)])
    torch.testing.assert_close(of_images, ours[None])


def detector(**changes: object) -> Detector:
    network = Detector(ENCODER, replace(CONFIG, **changes), CLASSES, frequency=(9, 4, 1))  # pyright: ignore
    initialise_detector(network, seed=0)
    return network


@pytest.mark.parametrize("changes", [{}, {"scores": "sigmoid", "federated_classes": 3}])
def test_images_without_objects_have_a_finite_loss_and_gradient(changes: dict[str, object]) -> None:
    network = detector(**changes)
    image = torch.randn(2, 3, SIDE, SIDE)
    draws = Draws(0, torch.tensor([0, 1]))
    losses = network.losses(image, [random_objects(0), random_objects(3)], EXTENTS, draws=draws)
    assert losses["masks"][0] == 0
    assert all(bool(value.isfinite().all()) for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    empty = network.losses(image, [random_objects(0)] * 2, EXTENTS, draws=draws)
    torch.stack(list(empty.values())).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


def test_loss_of_an_image_does_not_depend_on_its_batch() -> None:
    """So that microbatches and processes change nothing."""
    network = detector(scores="sigmoid", federated_classes=3)
    image = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    objects = [random_objects(4), random_objects(2, seed=1)]
    both = network.losses(image, objects, EXTENTS, draws=Draws(0, torch.tensor([5, 6])))
    for index in range(2):
        draws = Draws(0, torch.tensor([5 + index]))
        alone = network.losses(image[index : index + 1], objects[index : index + 1], EXTENTS[index:][:1], draws=draws)
        for name, value in alone.items():
            torch.testing.assert_close(value[0], both[name][index], rtol=1e-4, atol=1e-5)


def test_initial_weights_are_those_of_detectron2() -> None:
    network = detector()
    state = network.state_dict()
    assert state["cascade.stages.0.cls_score.weight"].std() == pytest.approx(0.01, rel=0.3)
    assert state["cascade.stages.2.bbox_pred.weight"].std() == pytest.approx(0.001, rel=0.3)
    assert state["proposals.head.conv.0.0.weight"].std() == pytest.approx(0.01, rel=0.1)
    assert state["proposals.head.bbox_pred.weight"].std() == pytest.approx(0.01, rel=0.3)
    assert state["mask_head.predictor.mask_fcn_logits.weight"].std() == pytest.approx(0.001, rel=0.3)
    fan_out = CONFIG.channels * 9
    assert state["cascade.stages.0.features.0.0.weight"].std() == pytest.approx(math.sqrt(2 / fan_out), rel=0.2)
    for name, value in state.items():
        if name.endswith("bias"):
            assert not value.any(), name
    assert torch.equal(state["cascade.stages.0.features.0.1.weight"], torch.ones(CONFIG.channels))
    assert not torch.equal(state["cascade.stages.0.cls_score.weight"], state["cascade.stages.1.cls_score.weight"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"global_blocks": (2,)}, "blocks 0 to 1"),
        ({"anchor_sides": (8.0,)}, "anchor_sides"),
        ({"cascade": ()}, "cascade"),
        ({"federated_classes": 50}, "federated_classes=50"),
        ({"score_threshold": 1.0}, "score_threshold=1.0"),
    ],
)
def test_impossible_numbers_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        detector(**changes)


def test_a_grid_that_the_pyramid_cannot_halve_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        Detector(replace(ENCODER, size=(72, 72)), CONFIG, CLASSES)
