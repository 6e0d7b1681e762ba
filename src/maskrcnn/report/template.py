"""Pages that are made from templates beside this file."""

from pathlib import Path
from typing import Any

import jinja2

from maskrcnn.evaluate.coco import percent


def render(template: str, /, **values: Any) -> str:
    """A page of a template beside this file; the data are escaped, and a value that is missing raises."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**values)
