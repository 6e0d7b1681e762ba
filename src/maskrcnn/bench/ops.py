"""Each kernel at the sizes of a recipe, beside the plain PyTorch that defines it, on the same device.

On a GPU kernels are replayed as recorded graphs, as in a run, since asking for a small one takes longer than it; the
plain PyTorch runs line by line. Bytes are those that no implementation can do without.
"""

import torch
from torch.utils._pytree import tree_leaves

from maskrcnn.bench.batches import widest_bucket
from maskrcnn.bench.case import Case
from maskrcnn.bench.ceilings import Ceilings, measure
from maskrcnn.bench.comparison import Costs, left_out, without_empty
from maskrcnn.bench.machine import facts
from maskrcnn.bench.operators import cases
from maskrcnn.bench.results import Row, Section, cell
from maskrcnn.bench.setup import Options
from maskrcnn.bench.timing import compare
from maskrcnn.config import Recipe
from maskrcnn.runtime.devices import choose_device
from maskrcnn.runtime.execution import Execution, executed
from maskrcnn.runtime.precision import choose_precision

KERNEL, REFERENCE = "kernel", "reference"


def run(recipe: Recipe, options: Options) -> list[Section]:
    """One table; needs no data set."""
    device = choose_device(recipe.device, 0)
    dtype = choose_precision(device, recipe.train.mixed_precision).dtype
    bucket = options.bucket or widest_bucket(recipe.data)
    ceilings, precision = measure(device, dtype), str(dtype).removeprefix("torch.")
    rows, notes = [], []
    for case in cases(recipe.model, options.batch, bucket, dtype, device):
        costs = _costs(case, device, options.repeats)
        rows.append(_row(case, costs, ceilings))
        notes += [f"{case.name}: {note}" for note in left_out(costs)]
    known = facts(device) | {
        "recipe": recipe.name,
        "batch": str(options.batch),
        "bucket": f"{bucket[0]} x {bucket[1]}",
        "precision": precision,
        "copies": f"{cell(ceilings.bandwidth / 1e9)} GB/s",
        "repeats": str(options.repeats),
    }
    key = f"ops, {recipe.name}, {bucket[0]}x{bucket[1]}, batch {options.batch}, {precision}"
    title = f"Operators, {recipe.name}, batch {options.batch}, {precision}"
    return [Section(key, title, known, without_empty(rows), notes)]


def difference(kernel: object, reference: object) -> float:
    """The largest between two results of the same structure."""
    pairs = zip(tree_leaves(kernel), tree_leaves(reference), strict=True)
    return max(float((a.double() - b.double()).abs().max()) if a.numel() else 0.0 for a, b in pairs)


@torch.no_grad()
def _costs(case: Case, device: torch.device, repeats: int) -> Costs:
    execution: Execution = "captured" if device.type == "cuda" and case.on_device else "eager"
    makers = {KERNEL: lambda: executed(case.kernel, execution, device)}
    if case.reference is not None:
        reference = case.reference
        makers[REFERENCE] = lambda: reference
    return compare(makers, device, repeats)


@torch.no_grad()
def _row(case: Case, costs: Costs, ceilings: Ceilings) -> Row:
    kernel, reference = costs[KERNEL], costs.get(REFERENCE)
    rate = case.bytes / kernel.seconds if kernel and case.bytes else None
    return {
        "operator": case.name,
        "size": case.size,
        "ms": kernel and 1000 * kernel.seconds,
        "reference, ms": reference and 1000 * reference.seconds,
        "ratio": reference.seconds / kernel.seconds if kernel and reference else None,
        "MB": case.bytes / 1e6 if case.bytes else None,
        "GB/s": rate and rate / 1e9,
        "share of copies": rate and rate / ceilings.bandwidth,
        "difference": difference(case.kernel(), case.reference()) if case.reference and kernel and reference else None,
    }
