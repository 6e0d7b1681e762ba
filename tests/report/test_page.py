"""The report: one file that holds the numbers and needs nothing from elsewhere."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from maskrcnn.evaluate import coco
from maskrcnn.evaluate.save import save
from maskrcnn.history import line_of, read_history
from maskrcnn.recipes import write_recipe
from maskrcnn.report.gallery import choose
from maskrcnn.report.page import write_report
from maskrcnn.sentences import Note

from ..evaluate.conftest import BOXES, SIZES

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not open; collects what a browser would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for name, value in attrs if name in ("src", "href", "data", "poster", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def training(recipe, tmp_path):
    """The folder of a run that missed one of four objects."""
    run = tmp_path / "runs" / "train" / "gray"
    run.mkdir(parents=True)
    results = [
        {"image_id": number, "category_id": category, "score": 0.9, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        | {"segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
        for number, objects in BOXES.items()
        for category, x1, y1, x2, y2 in objects[:1]
    ]
    metrics = coco.score(Path(recipe.data.dataset_dir) / recipe.data.val_anno_path, results)
    metrics["speed"] = {"predict": 31.25, "evaluate": 12.5, "images": 5, "seconds": 0.4}
    metrics["versions"] = {"torch": "2.13.0", "device": "1 x CPU"}
    save(run / "evaluation", metrics, {0: json.dumps(results)[1:-1].encode()})
    write_recipe(recipe, run / "config.yml")
    lines = [
        {"step": step, "epoch": 1, "lr": 0.02, "losses": {"rpn/objectness": 1 / step, "mask_head/mask": 0.5}}
        | {"total": 0.5 + 1 / step, "images_per_second": 4.2, "waiting": 0.01, "seconds": 60.0 * (step % 50)}
        for step in range(10, 100, 10)
    ]
    lines += [{"step": step, "epoch": 1, "evaluation": coco.headline(metrics)} for step in (50, 100)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 110, "lo')
    return run


def check(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert all(address.startswith("data:image/jpeg;base64,") for address in parser.loaded)
    assert not re.search(r"https?://|url\(|@import|<script", page)
    for picture in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        ElementTree.fromstring(picture)
    return parser


def test_a_training_report_is_one_valid_file_with_the_numbers(training):
    path = write_report(training)
    assert path == training / "report.html"
    page = path.read_text()
    parser = check(page)
    metrics = json.loads((training / "evaluation" / "metrics.json").read_text())
    for kind in ("bbox", "segm"):
        assert f"<b>{coco.percent(metrics[kind]['AP'])} <small>%</small></b>" in page
    for text in (
        "31.2 <small>images/s",
        "4.2 <small>images/s",
        "1 h 20 min",
        "Best mask AP of 2 evaluations",
        "2.13.0",
    ):
        assert text in page
    for title in ("Loss", "Learning rate", "Training speed", "Average precision", "Kinds of error"):
        assert f"<h3>{title}</h3>" in page
    assert "short_sides" in page
    assert len(parser.loaded) == 2 * 3  # one best, one typical and one worst of three pictures with objects


def test_scores_beside_cocos_and_results_that_nobody_looked_at_are_named(training):
    path = training / "evaluation" / "metrics.json"
    (training / "evaluation" / "checksums.json").unlink()  # a change on purpose
    uncounted = {"results": 20, "among": 320, "images": 1, "counted": 300, "most": 320}
    boundary = {"segm": {"AP": 0.321, "APl": None}}
    more = {
        "boundary": boundary,
        "max_dets": {"segm": {"AP@300": 0.123}},
        "lvis": {"segm": {"APr": 0.456}},
        "uncounted": uncounted,
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    page = write_report(training).read_text()
    check(page)
    for text in (
        "boundary AP</span><b>32.1 <small>%",
        "Boundary AP: an overlap counts as the lower",
        "<th>AP@300</th>",
        "<td>12.3</td>",
        "<th>APr</th>",
        "<td>45.6</td>",
        "LVIS's scores, with 300 results",
    ):
        assert text.replace("'", "&#39;") in page
    assert "20 of 320 results of 1 image were not looked at: at most 300 of one class in an image count." in page
    assert "evaluate.max_dets=320 counts them, too" in page


def test_names_from_the_data_cannot_become_markup(training):
    page = write_report(training).read_text()
    assert "&lt;b&gt;dog&lt;/b&gt;" in page
    assert "<b>dog" not in page


def test_names_of_all_classes_are_looked_up_in_the_fonts(training, monkeypatch):
    told = []
    monkeypatch.setattr("maskrcnn.report.gallery.note_unreadable", told.append)
    write_report(training)
    assert told == [("cat", "<b>dog</b>")]


def test_an_evaluation_has_a_report_without_training(training):
    (training / "evaluation" / "config.yml").write_bytes((training / "config.yml").read_bytes())
    page = write_report(training / "evaluation").read_text()
    check(page)
    assert "Mask R-CNN evaluation" in page
    assert "Learning rate</h3>" not in page
    assert "annotated" in page


def test_a_run_that_was_not_evaluated_has_its_curves(training):
    for file in (training / "evaluation").iterdir():
        file.unlink()
    (training / "metrics.jsonl").write_text((training / "metrics.jsonl").read_text().splitlines()[0] + "\n")
    page = write_report(training).read_text()
    check(page)
    assert "<h3>Loss</h3>" in page
    assert "Validation scores" not in page


def test_pictures_that_are_gone_are_told_of_and_the_rest_is_there(training, recipe):
    for picture in (Path(recipe.data.dataset_dir) / "val2017").iterdir():
        picture.unlink()
    page = write_report(training).read_text()
    assert "No images: " in page
    assert "Kinds of error" in page


def test_pictures_too_large_for_training_are_shown_with_their_masks(training, monkeypatch):
    monkeypatch.setattr("maskrcnn.data.decode.MEBIBYTE", 16)  # every picture is larger than 64 of them
    page = write_report(training).read_text()
    assert "No images: " not in page
    assert len(check(page).loaded) == 2 * 3


def test_scores_of_boxes_alone_are_reported(training, recipe):
    results = [{"image_id": 11, "category_id": 3, "score": 0.9, "bbox": [5, 4, 10, 20]}]
    annotations = Path(recipe.data.dataset_dir) / recipe.data.val_anno_path
    save(training / "evaluation", coco.score(annotations, results, ["bbox"]), {0: json.dumps(results)[1:-1].encode()})
    page = write_report(training).read_text()
    check(page)
    assert "box AP, %" in page
    assert "mask AP, %" not in page


def test_numbers_that_are_not_finite_leave_a_gap(training):
    line = json.loads((training / "metrics.jsonl").read_text().splitlines()[0]) | {"total": float("nan")}
    (training / "metrics.jsonl").write_bytes(line_of(line))
    check(write_report(training).read_text())


@pytest.mark.parametrize("name", ["metrics.json", "details.json", "predictions.json", "checksums.json"])
def test_a_damaged_evaluation_is_not_reported_on(name, training):
    content = bytearray((training / "evaluation" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (training / "evaluation" / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"evaluation/{name} is not what was written"):
        write_report(training)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff"])
def test_metrics_that_are_none_are_refused_with_their_path(content, tmp_path):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/metrics\.json is damaged \("):
        write_report(tmp_path)


def test_a_folder_without_numbers_is_refused(tmp_path):
    with pytest.raises(ValueError, match="found none"):
        write_report(tmp_path)


def test_a_line_that_is_not_complete_is_passed_over(training):
    with pytest.warns(Note, match=r"metrics\.jsonl: 1 line is not what was written and is left out: line 12$"):
        rows = read_history(training / "metrics.jsonl")
    assert ["evaluation" in row for row in rows].count(True) == 2
    assert len(rows) == 11


def test_the_gallery_shows_each_picture_once():
    rows = [{"id": n, "f1": n / len(SIZES), "found": n, "wrong": 0, "missed": 1} for n in range(len(SIZES))]
    rows.append({"id": 99, "f1": None, "found": 0, "wrong": 0, "missed": 0})
    chosen = choose(rows)
    assert [(kind, row["id"]) for kind, row in chosen] == [("best", 4), ("typical", 2), ("worst", 0)]
    assert choose([]) == []
