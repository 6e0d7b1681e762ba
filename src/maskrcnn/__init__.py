"""Mask R-CNN: train, evaluate and predict instance segmentation on COCO-format data.

model = maskrcnn.load("runs/train/demo")
result = model.predict("street.jpg", score=0.5)
result.save("street.png")
"""

import os
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "darwin" and "torch" not in sys.modules:
    # Operators that Apple's GPUs lack run on the CPU. Torch looks when it is imported, and never again.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

if TYPE_CHECKING:
    from maskrcnn.instances import Instances as Instances
    from maskrcnn.predict import load as load

    __version__: str

__all__ = ["Instances", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import on first use: `import maskrcnn`, and with it `maskrcnn --help`, does not wait for torch."""
    if name == "load":
        from maskrcnn.predict import load

        return load
    if name == "Instances":
        from maskrcnn.instances import Instances

        return Instances
    if name == "__version__":
        from importlib.metadata import version

        return version("maskrcnn")
    raise AttributeError(f"module 'maskrcnn' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
