"""From picture files to padded batches with targets, beside torchvision's reference pipeline for detection.

Both read the same photos in the same order and make batches of the same short and long side. The peer: Pillow, masks
of every object from pycocotools, a flip, floats, then the transform of torchvision's own model, which normalises,
resizes pictures and masks, and pads. On one core each side reads in the thread that takes the batches; on more it has
as many workers, threads here and processes there. A ready batch here has outlines instead of masks, from which a step
draws what its boxes need.

    python benchmarks/loading.py [--data DIR] [--out DIR]
"""

import argparse
import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from msgspec import structs
from PIL import Image
from pycocotools.coco import COCO
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional

from maskrcnn.bench import results
from maskrcnn.bench.machine import facts
from maskrcnn.bench.timing import steady_seconds
from maskrcnn.config import Data
from maskrcnn.data.annotation_store import AnnotationStore
from maskrcnn.data.buckets import Step, buckets_for, plan_epoch, whole_images
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.feeder import feed, micro_batch_maker
from maskrcnn.data.loader import Loader
from maskrcnn.data.split import open_split
from maskrcnn.structures import MicroBatch

REPOSITORY = Path(__file__).parents[1]
SHARED = Path(os.environ.get("MASKRCNN_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
CPU = torch.device("cpu")
MEBIBYTE = 2**20
SKIPPED = 8  # batches that were made ahead, or by workers that had just begun

Batches = Iterator[Any]
Target = dict[str, torch.Tensor]


class Photos(torch.utils.data.Dataset):
    """The peer's samples: a picture of floats from 0 to 1, and the objects in it with full masks."""

    def __init__(self, data: Dataset, flip: float) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco = COCO(str(data.annotations))
        self.data, self.flip = data, flip

    def __len__(self) -> int:
        return len(self.data.image_ids)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, Target]:
        image = Image.open(self.data.images / self.data.file_names[index]).convert("RGB")
        entries = self.coco.loadAnns(self.coco.getAnnIds(int(self.data.image_ids[index])))
        entries = [entry for entry in entries if not entry["iscrowd"]]
        target = target_of(entries, self.coco, image.height, image.width)
        if torch.rand(1) < self.flip:
            image, target = functional.horizontal_flip(image), mirrored(target, image.width)
        return functional.to_dtype(functional.pil_to_tensor(image), torch.float32, scale=True), target


def target_of(entries: list[dict[str, Any]], coco: COCO, height: int, width: int) -> Target:
    boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    masks = [torch.as_tensor(coco.annToMask(entry)) for entry in entries]
    keep = (boxes[:, 3] > boxes[:, 1]) & (boxes[:, 2] > boxes[:, 0])
    return {
        "boxes": boxes[keep],
        "labels": torch.tensor([entry["category_id"] for entry in entries], dtype=torch.int64)[keep],
        "masks": (torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.uint8))[keep],
    }


def mirrored(target: Target, width: int) -> Target:
    boxes = target["boxes"].clone()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return {**target, "boxes": boxes, "masks": target["masks"].flip(-1)}


def together(samples: list[tuple[torch.Tensor, Target]]) -> tuple[list[torch.Tensor], list[Target]]:
    return [image for image, _ in samples], [target for _, target in samples]


def their_batches(data: Dataset, steps: list[Step], settings: Data) -> Batches:
    """Batched pictures and targets, as torchvision's model begins with them."""
    transform = GeneralizedRCNNTransform(
        settings.short_sides,
        settings.max_side,
        [mean / 255 for mean in settings.mean],
        [std / 255 for std in settings.std],
    ).train()
    loader = torch.utils.data.DataLoader(
        Photos(data, settings.flip),
        batch_sampler=[step.indices.tolist() for step in steps],
        num_workers=settings.num_workers,
        collate_fn=together,
    )
    for images, targets in loader:
        yield transform(images, targets)


def our_batches(data: Dataset, steps: list[Step], settings: Data) -> Iterator[MicroBatch]:
    """Batches as a training step takes them."""
    make = micro_batch_maker(AnnotationStore(data, CPU), CPU, settings, one_shape=False)
    return (batch for _, batch in feed(Loader(data, steps, settings), make, CPU))


RIVALS: dict[str, Callable[[Dataset, list[Step], Data], Batches]] = {"ours": our_batches, "torchvision": their_batches}


def plan(data: Dataset, settings: Data, batch: int, number: int) -> list[Step]:
    """So many batches, of as many epochs as they take."""
    buckets = buckets_for(data.sizes, settings, settings.short_sides)
    epochs = (
        plan_epoch(whole_images(data.sizes), settings, buckets, batch=batch, seed=0, epoch=epoch)
        for epoch in itertools.count()
    )
    return list(itertools.islice(itertools.chain.from_iterable(epochs), number))


def seconds_of_each(data: Dataset, settings: Data, batch: int, count: int, repeats: int) -> dict[str, float]:
    """Median seconds from one picture to the next."""
    steps = plan(data, settings, batch, SKIPPED + count + 2 * settings.num_workers)
    spent: dict[str, list[float]] = {name: [] for name in RIVALS}
    for _ in range(repeats):
        for name, make in RIVALS.items():
            batches = make(data, steps, settings)
            spent[name].append(steady_seconds(batches, CPU, skip=SKIPPED, count=count) / batch)
            del batches  # ends its workers
    return {name: median(seconds) for name, seconds in spent.items()}


def on_cores(number: int, work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Do it on so many cores; threads and processes begun meanwhile stay on them."""
    threads, cores = torch.get_num_threads(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[-number:])
    torch.set_num_threads(number)
    try:
        return work()
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


def speeds(data: Dataset, settings: Data, batch: int, count: int, repeats: int) -> list[results.Row]:
    rows: list[results.Row] = []
    for cores in sorted({1, min(2, len(os.sched_getaffinity(0)))}):
        chosen = structs.replace(settings, num_workers=0 if cores == 1 else cores)
        spent = on_cores(cores, lambda chosen=chosen: seconds_of_each(data, chosen, batch, count, repeats))
        per_core = {f"{name}, images/s and core": 1 / seconds / cores for name, seconds in spent.items()}
        rows.append({"cores": str(cores), **per_core, "ratio": spent["torchvision"] / spent["ours"]})
    return rows


def memory(data: Dataset, settings: Data, batch: int, samples: tuple[int, ...]) -> list[results.Row]:
    """What the process holds after so many pictures; all workers are its threads."""
    batches = our_batches(data, plan(data, settings, batch, -(-max(samples) // batch)), settings)
    rows: list[results.Row] = []
    for number, _ in enumerate(batches, 1):
        if number * batch in samples:
            rows.append({"samples drawn": number * batch, "resident, MiB": resident() / MEBIBYTE})
    return [{**row, "ratio to the first": row["resident, MiB"] / rows[0]["resident, MiB"]} for row in rows]


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def run(
    folder: Path, settings: Data, *, batch: int = 2, count: int = 24, repeats: int = 5, samples: tuple[int, ...]
) -> list[results.Section]:
    data = open_split(structs.replace(settings, dataset_dir=str(folder)), "train")
    size = f"{max(settings.short_sides)} x {settings.max_side}"
    known = facts(CPU) | {"pictures": str(len(data.image_ids)), "batch": str(batch)}
    held = memory(data, structs.replace(settings, num_workers=2), batch, samples)
    rows = speeds(data, settings, batch, count, repeats)
    return [
        results.Section("loading", f"Files to batches of {size} with targets", known, rows),
        results.Section("loading, memory", f"Memory while batches of {size} are made, 2 workers", known, held),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "coco_mini", help="a folder in the COCO2017 layout")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--samples", type=int, nargs="+", default=[1000, 2000, 5000, 10000])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    sections = run(args.data, Data(), repeats=args.repeats, samples=tuple(args.samples))
    print("\n\n".join(map(results.described, sections)))
    print("written to " + " and ".join(map(str, results.add(args.out, sections))))


if __name__ == "__main__":
    main()
