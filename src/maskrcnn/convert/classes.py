"""COCO's categories, which nearly every published checkpoint predicts and few of them name."""

NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, N/A, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, N/A, backpack, umbrella, "
    "N/A, N/A, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, "
    "skateboard, surfboard, tennis racket, bottle, N/A, wine glass, cup, fork, knife, spoon, bowl, banana, apple, "
    "sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, N/A, "
    "dining table, N/A, N/A, toilet, N/A, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, "
    "sink, refrigerator, N/A, book, clock, vase, scissors, teddy bear, hair drier, toothbrush"
)
COCO = tuple(NAMES.split(", "))
"""Names of the ids 1 to 90; ten ids were never used."""
UNUSED = "N/A"
COCO_COUNTS = (80, 90)
"""Numbers of classes of COCO models: without and with the unused ids."""


def coco_classes(num: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return names and ids of a model's `num` classes without background, in label order.

    80 are COCO's; 90 are COCO's with the unused ids, as in torchvision; others are numbered.

    >>> coco_classes(2)
    (('class_1', 'class_2'), (1, 2))
    """
    if num not in COCO_COUNTS:
        return tuple(f"class_{id}" for id in range(1, num + 1)), tuple(range(1, num + 1))
    used = [(name, id) for id, name in enumerate(COCO, 1) if num == 90 or name != UNUSED]
    return tuple(name for name, _ in used), tuple(id for _, id in used)
