"""Which commands there are."""

from typing import Any

import typer

from maskrcnn.cli import bench as benchmarks
from maskrcnn.cli.convert import convert
from maskrcnn.cli.data import check, shapes, show, stats
from maskrcnn.cli.data_sets import convert as convert_data
from maskrcnn.cli.data_sets import plan, split
from maskrcnn.cli.demo import demo
from maskrcnn.cli.doctor import doctor
from maskrcnn.cli.evaluate import evaluate
from maskrcnn.cli.predict import predict
from maskrcnn.cli.train import train

# Rich would take longer to import than everything else that help needs.
PLAIN: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True}
WITH_SETTINGS = {"ignore_unknown_options": True}
"""`--a.b v` goes to the recipe, which refuses what is no setting of its own."""

app = typer.Typer(
    help="Mask R-CNN: train, evaluate and predict on your own images, or on COCO.", add_completion=False, **PLAIN
)
app.command(context_settings=WITH_SETTINGS)(train)
app.command("eval", context_settings=WITH_SETTINGS)(evaluate)
app.command()(predict)
app.command(context_settings=WITH_SETTINGS)(convert)
app.command(context_settings=WITH_SETTINGS)(demo)
app.command()(doctor)

data = typer.Typer(help="Check, look at, convert and divide data sets.", **PLAIN)
data.command(context_settings=WITH_SETTINGS)(check)
data.command("convert", context_settings=WITH_SETTINGS)(convert_data)
data.command(context_settings=WITH_SETTINGS)(plan)
data.command()(shapes)
data.command(context_settings=WITH_SETTINGS)(show)
data.command(context_settings=WITH_SETTINGS)(stats)
data.command(context_settings=WITH_SETTINGS)(split)
app.add_typer(data, name="data")

bench = typer.Typer(help="Time steps, predictions and operators, beside torchvision.", **PLAIN)
bench.command(context_settings=WITH_SETTINGS)(benchmarks.train)
bench.command(context_settings=WITH_SETTINGS)(benchmarks.predict)
bench.command("eval", context_settings=WITH_SETTINGS)(benchmarks.evaluate)
bench.command(context_settings=WITH_SETTINGS)(benchmarks.ops)
app.add_typer(bench, name="bench")
