"""COCO's categories, which nearly every published checkpoint knows and few of them name."""

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
"""The name of each id from 1 to 90; ten ids were never used."""
UNUSED = "N/A"
COCO_COUNTS = (80, 90)
"""Classes of a model of COCO: without and with the ids that were never used."""


def coco_classes(num: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and ids of a model of `num` classes without background, in label order.

    80 are COCO's; 90 are COCO's with the ids that were never used, as torchvision counts; others are numbered.

    >>> coco_classes(2)
    (('class_1', 'class_2'), (1, 2))
    """
    if num not in COCO_COUNTS:
        return tuple(f"class_{id}" for id in range(1, num + 1)), tuple(range(1, num + 1))
    used = [(name, id) for id, name in enumerate(COCO, 1) if num == 90 or name != UNUSED]
    return tuple(name for name, _ in used), tuple(id for _, id in used)
