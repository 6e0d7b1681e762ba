"""Calls every kernel that works on addresses, forward and backward, and prints a digest of all bits that came out.

    python tests/ops/stress.py small|large [repeats]

Each repeat has to give the same bits. Run with MALLOC_CHECK_ and MALLOC_PERTURB_, a write to memory that was freed ends
the process, and a read from it changes the digest.
"""

import hashlib
import sys

import torch

from maskrcnn.ops.conv1x1 import conv1x1
from maskrcnn.ops.conv3x3 import conv3x3
from maskrcnn.ops.depthwise import depthwise

SMALL = {
    conv3x3: [
        ((1, 64, 16, 16), 64, {"relu": True}),
        ((3, 64, 7, 13), 96, {}),
        ((2, 512, 9, 7), 64, {"relu": True}),
        ((2, 64, 33, 40), 32 * 3, {"stride": 2}),
        ((17, 64, 4, 4), 64, {}),
    ],
    conv1x1: [
        ((1, 32, 16, 16), 64, {"relu": True}),
        ((1, 64, 257, 1), 32, {}),
        ((2, 96, 33, 17), 64, {"stride": 2, "relu": True}),
    ],
    depthwise: [
        ((2, 32, 32, 48), 3, {"before": True, "after": True, "ceiling": 6.0}),
        ((3, 48, 33, 17), 3, {"stride": 2, "after": True}),
        ((1, 480, 4, 5), 5, {"before": True}),
        ((2, 48, 37, 50), 5, {"stride": 2}),
        ((1, 16, 1, 1), 5, {}),
    ],
}
"""Operator -> pixels' shape, outputs, and how it is called: the demo's sizes, odd ones, few and many tiles.

A depthwise convolution has the side of its weights in place of the outputs.
"""
LARGE = {
    conv3x3: [
        ((1, 64, 200, 272), 64, {"relu": True}),
        ((1, 128, 100, 136), 128, {"relu": True}),
        ((1, 256, 50, 68), 256, {"relu": True}),
        ((1, 512, 25, 34), 512, {"relu": True}),
        ((1, 256, 13, 17), 256, {}),
        ((1, 256, 200, 272), 256, {}),
        ((1, 128, 200, 272), 128, {"stride": 2, "relu": True}),
        ((24, 256, 14, 14), 256, {"relu": True}),
    ],
    conv1x1: [
        ((1, 64, 200, 272), 256, {}),
        ((1, 256, 200, 272), 64, {"relu": True}),
        ((1, 512, 100, 136), 1024, {"stride": 2}),
        ((1, 2048, 25, 34), 512, {"relu": True}),
        ((24, 256, 14, 14), 1024, {"relu": True}),
    ],
    depthwise: [
        ((1, 96, 400, 544), 3, {"stride": 2, "before": True, "after": True, "ceiling": 6.0}),
        ((1, 672, 50, 68), 5, {"before": True, "after": True, "ceiling": 6.0}),
    ],
}
"""What ResNet-50 with a feature pyramid asks for at 800 pixels, and EfficientNet-Lite0."""


def results(op, shape, outputs, how, place=lambda tensor: tensor.contiguous(memory_format=torch.channels_last)):
    """The result and the gradients of pixels, weights and bias.

    place   puts pixels, and the gradient of the result, somewhere
    """
    generator = torch.Generator().manual_seed(7)
    channels, side = shape[1], 3 if op is conv3x3 else 1
    x = place(torch.randn(shape, generator=generator)).requires_grad_()
    kernel = (channels, 1, outputs, outputs) if op is depthwise else (outputs, channels, side, side)
    weight = torch.randn(kernel, generator=generator).requires_grad_()
    bias = torch.randn(kernel[0], generator=generator).requires_grad_()
    y = op(x, weight, bias, **how)
    y.backward(place(torch.randn(y.shape, generator=generator)))
    return y.detach(), x.grad, weight.grad, bias.grad


def digest(cases):
    found = hashlib.sha256()
    for op, calls in cases.items():
        for call in calls:
            for tensor in results(op, *call):
                found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()


if __name__ == "__main__":
    cases, repeats = {"small": SMALL, "large": LARGE}[sys.argv[1]], int((*sys.argv, "1")[2])
    digests = {digest(cases) for _ in range(repeats)}
    if len(digests) > 1:
        sys.exit(f"{repeats} repeats gave {len(digests)} different results")
    print(*digests)
