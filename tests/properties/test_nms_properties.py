import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn.ops.nms import nms, reference

# Whole corners and thresholds of few bits: the overlap test is exact in float32 and in the oracle's integers.
corners = st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(0, 6), st.integers(0, 5))
candidates = st.lists(st.tuples(corners, st.integers(0, 2), st.booleans()), max_size=14)
quarters = st.integers(0, 4)
slots = st.integers(0, 16)


def greedy(candidates, quarter, num_keep):
    """Positions kept, one candidate after the other, in whole numbers."""
    kept = []
    for i, ((x, y, w, h), group, valid) in enumerate(candidates):
        for k in kept:
            (u, v, p, q), other, _ = candidates[k]
            shared = max(min(x + w, u + p) - max(x, u), 0) * max(min(y + h, v + q) - max(y, v), 0)
            if group == other and 4 * shared > quarter * (w * h + p * q - shared):
                break
        else:
            if valid:
                kept.append(i)
    return kept[:num_keep]


@pytest.mark.parametrize("implementation", [nms, reference.nms])
@settings(max_examples=60, deadline=None)
@given(candidates=candidates, quarter=quarters, num_keep=slots)
def test_it_equals_a_greedy_loop(implementation, candidates, quarter, num_keep):
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _, _ in candidates]).view(1, -1, 4).float()
    groups = torch.tensor([[group for _, group, _ in candidates]], dtype=torch.long)
    valid = torch.tensor([[valid for _, _, valid in candidates]], dtype=torch.bool)
    index, kept = implementation(boxes, groups, valid, threshold=quarter / 4, num_keep=num_keep)
    assert index[kept].tolist() == greedy(candidates, quarter, num_keep)
    assert kept[0].tolist() == sorted(kept[0].tolist(), reverse=True)
    assert not index[~kept].any()
