"""Pages that are made from templates beside this file."""

from pathlib import Path
from typing import Any

import jinja2

from maskrcnn.evaluate.coco import percent


def render(name: str, /, **values: Any) -> str:
    """A page of the template `name`; what comes from the data is escaped, and a value that is missing raises."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(name).render(values)
