"""What several commands say in the same words."""

from typing import Annotated

from typer import Argument

Config = Annotated[str, Argument(metavar="CONFIG", help="A recipe: a YAML file, or a name such as `demo`.")]
Overrides = Annotated[
    list[str] | None,
    Argument(metavar="key=value", help="Settings that replace the recipe's: train.batch=8 or --train.batch 8."),
]
DataSet = Annotated[str, Argument(metavar="DIR|CONFIG", help="A folder in the COCO2017 layout, or a recipe.")]
