"""`report.html`: a run on one page that needs nothing but itself.

Everything comes from the files of the run, so a report can be written anew at any time:
metrics.jsonl (training only), evaluation/ (or, of an evaluation's own folder, the same files in it) and config.yml.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

from markupsafe import Markup
from msgspec import DecodeError, json

from maskrcnn.checksums import check_files
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.split import open_split
from maskrcnn.evaluate.coco import NAMES, TITLES, Metrics, headline, percent, sections
from maskrcnn.files import atomic_write
from maskrcnn.history import read_history
from maskrcnn.recipes import read_recipe
from maskrcnn.report.charts import SMALL, Line, line_chart, matrix_chart
from maskrcnn.report.gallery import Example, examples
from maskrcnn.report.template import render
from maskrcnn.run_folder import CONFIG, DETAILS, EVALUATION, HISTORY, METRICS, PREDICTIONS, REPORT

MOST_CLASSES = 20
"""In the confusion matrix; of more, those with the most objects are shown."""
COLORS = {"segm": 0, "bbox": 1}


class Figure(NamedTuple):
    """A chart and what it shows."""

    title: str
    chart: Markup
    note: str = ""


class Confusion(NamedTuple):
    """Who is taken for whom."""

    figure: Figure
    pairs: list[tuple[str, str, int]]
    """(true, predicted, number) of different classes, most frequent first."""


def write_report(run: Path, dataset: Dataset | None = None) -> Path:
    """Write `report.html` of a training run's or an evaluation's folder.

    dataset   what was evaluated; without it, the recipe's validation split is opened for the images
    Raises ValueError when the folder holds neither metrics.jsonl nor metrics.json.
    """
    run = Path(run)
    rows = read_history(run / HISTORY)
    steps, evaluations = ([row for row in rows if ("evaluation" in row) == scored] for scored in (False, True))
    folder = run / EVALUATION if (run / EVALUATION / METRICS).is_file() else run
    metrics = read_metrics(folder)
    if not steps and not evaluations and not metrics:
        raise ValueError(f"{run}: expected {HISTORY}, {EVALUATION}/{METRICS} or {METRICS} to report on, found none")
    if evaluations and not headline(metrics):
        metrics = cast(Metrics, evaluations[-1]["evaluation"])
    images, images_note = _gallery(run / CONFIG, folder / PREDICTIONS, metrics, dataset)
    page = render(
        "page.html.jinja",
        name=run.resolve().name,
        is_training=bool(steps or evaluations),
        numbers=_numbers(steps, metrics),
        best=_best(evaluations),
        figures=[figure for figure in (_losses(steps), _progress(evaluations), *_pace(steps)) if figure.chart],
        scores=headline(metrics),
        names=NAMES,
        sections=sections(metrics),
        uncounted=metrics.get("uncounted"),
        titles=TITLES,
        classes=_ranked(metrics),
        kinds=list(reversed(headline(metrics))),
        curves=_precision_recall(metrics),
        errors=_errors(metrics),
        confusion=_confusion(metrics),
        images=images,
        images_note=images_note,
        recipe=(run / CONFIG).read_text(encoding="utf-8") if (run / CONFIG).is_file() else "",
        speed=metrics.get("speed", {}),
        versions=metrics.get("versions", {}),
    )
    path = run / REPORT
    with atomic_write(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def read_metrics(folder: Path) -> Metrics:
    """What `evaluate.save` wrote; empty when it wrote nothing. Raises ValueError where that was damaged since."""
    check_files(folder)
    found: dict[str, Any] = {}
    for file in (folder / name for name in (METRICS, DETAILS) if (folder / name).is_file()):
        try:
            found |= json.decode(file.read_bytes(), type=dict[str, Any])
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"{file} is damaged ({error}); evaluate again, or copy it again") from None
    return cast(Metrics, found)


def duration(seconds: float) -> str:
    """For people.

    >>> duration(5025), duration(75), duration(9.4)
    ('1 h 24 min', '1 min 15 s', '9 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {round(seconds / 60) % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _numbers(steps: Sequence[Mapping[str, Any]], metrics: Metrics) -> list[tuple[str, str, str]]:
    """(name, value, unit) of what one looks for first."""
    scores = headline(metrics)
    numbers = [
        (f"{TITLES[kind]} {name}", percent(scores[kind][name]), "%")
        for kind in ("segm", "bbox")
        if kind in scores
        for name in ("AP", "AP50")
    ]
    if "boundary" in metrics:
        numbers.append(("boundary AP", percent(metrics["boundary"]["segm"]["AP"]), "%"))
    speed = metrics.get("speed")
    if speed:
        numbers.append(("prediction", f"{speed['predict']:.1f}", "images/s"))
    if steps:
        numbers.append(("training", f"{median(row['images_per_second'] for row in steps):.1f}", "images/s"))
        numbers.append(("training time", duration(_training_seconds(steps)), ""))
        if "seconds_left" in steps[-1]:
            numbers.append(("left after the last step", duration(steps[-1]["seconds_left"]), ""))
    if speed:
        numbers.append(("evaluation time", duration(speed["seconds"]), ""))
    return numbers


def _training_seconds(steps: Sequence[Mapping[str, Any]]) -> float:
    """Lines count seconds since training began or went on: the last of each stretch is its length."""
    seconds = [row.get("seconds", 0.0) for row in steps]
    return sum(now for now, following in zip(seconds, [*seconds[1:], 0.0], strict=True) if following < now)


def _best(evaluations: Sequence[Mapping[str, Any]]) -> str:
    """A sentence about the best evaluation, once there are several."""
    kind = "segm" if all("segm" in row["evaluation"] for row in evaluations) else "bbox"
    scored = [row for row in evaluations if row["evaluation"].get(kind, {}).get("AP") is not None]
    if len(scored) < 2:
        return ""
    best = max(scored, key=lambda row: row["evaluation"][kind]["AP"])
    value = percent(best["evaluation"][kind]["AP"])
    return f"Best {TITLES[kind]} AP of {len(scored)} evaluations: {value} % at step {best['step']}."


def _losses(steps: Sequence[Mapping[str, Any]]) -> Figure:
    names = list(dict.fromkeys(name for row in steps for name in row["losses"]))
    losses = [Line("total", _points(steps, lambda row: row["total"]), 0)]
    losses += [
        Line(name, _points(steps, lambda row, name=name: row["losses"].get(name)), color)
        for color, name in enumerate(names, 1)
    ]
    return Figure("Loss", line_chart(losses, x_label="step", y_label="loss"))


def _pace(steps: Sequence[Mapping[str, Any]]) -> list[Figure]:
    return [
        Figure("Learning rate", _single(steps, "lr", "learning rate")),
        Figure("Training speed", _single(steps, "images_per_second", "images per second")),
        Figure("Waiting for images", _single(steps, "waiting", "share of the time, %", factor=100.0)),
    ]


def _single(steps: Sequence[Mapping[str, Any]], key: str, label: str, factor: float = 1.0) -> Markup:
    points = _points(steps, lambda row: None if row.get(key) is None else factor * row[key])
    return line_chart([Line(label, points, 0)], x_label="step", y_label=label, size=SMALL)


def _progress(evaluations: Sequence[Mapping[str, Any]]) -> Figure:
    lines = [
        Line(
            f"{TITLES[kind]} {name}",
            _points(evaluations, lambda row, kind=kind, name=name: _percent(row["evaluation"].get(kind, {}).get(name))),
            color,
            dashed=name != "AP",
        )
        for kind, color in COLORS.items()
        for name in ("AP", "AP50")
    ]
    return Figure("Average precision", line_chart(lines, x_label="step", y_label="validation AP, %"))


def _precision_recall(metrics: Metrics) -> Markup:
    curves: dict[str, Any] = metrics.get("curves", {})
    lines = [
        Line(
            f"{TITLES[kind]}, IoU {iou}",
            [
                (100 * x, 100 * y)
                for x, y in zip(curves[kind]["recall"], curves[kind][iou], strict=True)
                if y is not None
            ],
            color,
            dashed=iou != "0.50",
        )
        for kind, color in COLORS.items()
        if kind in curves
        for iou in ("0.50", "0.75")
    ]
    return line_chart(lines, x_label="recall, %", y_label="precision, %", x=(0.0, 100.0), y=(0.0, 100.0))


def _errors(metrics: Metrics) -> list[tuple[str, float]]:
    """Kinds of error, worst first."""
    return sorted(metrics.get("errors", {}).items(), key=lambda error: -error[1])


def _confusion(metrics: Metrics) -> Confusion | None:
    confusion = metrics.get("confusion")
    if not confusion or not confusion["counts"]:
        return None
    names, background = confusion["classes"], len(confusion["classes"])
    counts = {(true, predicted): number for true, predicted, number in confusion["counts"]}
    whole = [sum(number for (true, _), number in counts.items() if true == k) for k in range(background)]
    shown = sorted(sorted(range(background), key=lambda k: -whole[k])[:MOST_CLASSES])
    rest = [k for k in range(background) if k not in shown]
    rows, columns = [*shown, background], [*shown, background]
    table = [[counts.get((i, j), 0) for j in columns] for i in rows]
    titles = [names[k] for k in shown]
    heads = [*titles, "missed"]
    if rest:
        heads.append("other classes")
        table = [[*row, sum(counts.get((i, j), 0) for j in rest)] for i, row in zip(rows, table, strict=True)]
    chart = matrix_chart([*titles, "nothing there"], heads, table, x_label="predicted", y_label="true")
    note = f"Scores of {confusion['score']} or more, matched at IoU {confusion['iou']}; shaded by share of the row."
    if rest:
        note += f" The {len(shown)} classes with the most objects of {background}."
    pairs = [(names[i], names[j], number) for (i, j), number in counts.items() if i != j and background not in (i, j)]
    return Confusion(Figure("Confusion", chart, note), sorted(pairs, key=lambda pair: -pair[2])[:8])


def _ranked(metrics: Metrics) -> list[dict[str, Any]]:
    """Classes, best first; those without objects last."""
    kind = "segm" if "segm" in metrics else "bbox"

    def order(row: dict[str, Any]) -> tuple[bool, float]:
        value = row[kind]["AP"]
        return value is None, -(value or 0.0)

    return sorted(metrics.get("per_class", []), key=order)


def _gallery(config: Path, predictions: Path, metrics: Metrics, dataset: Dataset | None) -> tuple[list[Example], str]:
    """Examples, or why there are none."""
    if not config.is_file() or not predictions.is_file() or not metrics.get("images"):
        return [], ""
    try:
        dataset = dataset or open_split(read_recipe(config).data, "val")
        return examples(dataset, predictions, metrics["images"]), ""
    except (OSError, ValueError) as error:
        return [], f"No images: {error}."


def _points(rows: Sequence[Mapping[str, Any]], value: Any) -> list[tuple[float, float]]:
    pairs = ((float(row["step"]), value(row)) for row in rows)
    return [(step, float(number)) for step, number in pairs if number is not None]


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
