"""The built-in data set: coloured shapes that hide one another, written as a real COCO2017 folder.

It is small, needs no download, and has what real annotations have: several parts, holes, crowd
regions, empty images, both orientations, camouflage, gaps between category ids. Annotations are
exact to the pixel: an object owns the pixels whose centre is inside it and that nothing later covers.

The same settings give the same pixels and the same JSON on every machine and NumPy release: random
numbers are the raw words of PCG64 (`Generator` methods may change, the words may not), and geometry
and colour use only + - * / sqrt and comparisons, element by element, which IEEE 754 rounds alike
everywhere. No sine, no sum, no matrix product.
"""

from maskrcnn.data.shapes.files import generate
from maskrcnn.data.shapes.scene import CATEGORIES, Scene, draw_scene

__all__ = ["CATEGORIES", "Scene", "draw_scene", "generate"]
