"""Rows that set our ways to run beside each other, beside torchvision, and beside the floor."""

from collections.abc import Mapping, Sequence
from typing import Final

from maskrcnn.bench.results import Row
from maskrcnn.bench.timing import Cost
from maskrcnn.runtime.execution import Execution

EAGER: Final = "eager"
PEER: Final = "torchvision"
MEBIBYTE = 2**20
Costs = Mapping[str, Cost | None]
"""Costs by the way to run; None where the memory did not suffice."""


def compared(stage: str, batch: int, costs: Costs, execution: Execution, floor: float | None = None) -> Row:
    """One stage: ours line by line and by `execution`, torchvision's, and the least time that its products need."""
    eager, fast, theirs = (costs.get(name) for name in (EAGER, execution, PEER))
    best = fast or eager
    return {
        "stage": stage,
        "eager, ms": _milliseconds(eager),
        **({} if execution == EAGER else {f"{execution}, ms": _milliseconds(fast)}),
        f"{PEER}, ms": _milliseconds(theirs),
        "ratio": theirs.seconds / best.seconds if theirs and best else None,
        "floor, ms": None if floor is None else 1000 * floor,
        "times the floor": best.seconds / floor if floor and best else None,
        "images/s": batch / best.seconds if best else None,
        "MiB/image": _mebibytes(best, batch),
        f"{PEER}, MiB/image": _mebibytes(theirs, batch),
    }


def without_empty(rows: Sequence[Row]) -> list[Row]:
    """Rows without the columns in which none has anything."""
    used = {name for row in rows for name, value in row.items() if value is not None}
    return [{name: value for name, value in row.items() if name in used} for row in rows]


def left_out(costs: Costs) -> list[str]:
    """What the memory does not suffice for, a sentence each."""
    return [f"{name} does not fit into the device's memory" for name, cost in costs.items() if cost is None]


def _milliseconds(cost: Cost | None) -> float | None:
    return 1000 * cost.seconds if cost else None


def _mebibytes(cost: Cost | None, batch: int) -> float | None:
    return cost.memory / MEBIBYTE / batch if cost and cost.memory is not None else None
