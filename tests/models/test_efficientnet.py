"""EfficientNet-Lite beside the network that its weights were published with, and by hand."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from maskrcnn.convert.efficientnet import MEAN, STD, load_imagenet
from maskrcnn.models.efficientnet import SCALES, EfficientNet
from maskrcnn.models.layers import Conv, folded

ENDS = {0: (2, 4, 10, 15), 2: (3, 6, 14, 20)}
