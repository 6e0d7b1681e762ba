"""A small network in the arrangement that every maker has: two fully connected layers, four convolutions."""

import pytest
import torch

from maskrcnn.config import Backbone, BoxHead, Model, Neck, Recipe
from maskrcnn.convert.framework import shapes
from maskrcnn.weights import Weights

SMALL = Model(backbone=Backbone(kind="resnet50"), neck=Neck(channels=16), box_head=BoxHead(hidden=24))


@pytest.fixture(scope="session")
def small():
    """Our weights of two classes, with random numbers."""
    generator = torch.Generator().manual_seed(0)
    tensors = {name: torch.rand(shape, generator=generator) for name, shape in shapes(SMALL, 2).items()}
    return Weights(tensors, Recipe(model=SMALL, classes=("cat", "dog"), category_ids=(3, 7)), "here")
