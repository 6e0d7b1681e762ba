"""`maskrcnn bench` on a small network: tables on the screen and in files."""

import msgspec
import pytest

from maskrcnn.bench.results import Results
from maskrcnn.data.shapes import generate

RECIPE = """
name: tiny
device: cpu
data: {short_sides: [64], max_side: 64, num_buckets: 2, num_workers: 1, dataset_dir: %s}
model:
  backbone: {kind: resnet18, norm: group_norm, frozen_stages: 0, width: 16}
  neck: {channels: 16}
  rpn: {num_train_candidates: 50, num_train_proposals: 40, num_test_candidates: 50, num_test_proposals: 30}
  box_head: {hidden: 32, num_rois: 24, num_detections: 10, num_candidates: 60}
  mask_head: {num_convs: 1, channels: 16, num_rois: 6}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    data = generate(folder / "shapes", num_train=4, num_val=4, side=64)
    (folder / "tiny.yml").write_text(RECIPE % data)
    return folder / "tiny.yml"


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch):
    monkeypatch.setattr("maskrcnn.bench.timing.WARM_CALLS", 1)
    monkeypatch.setattr("maskrcnn.bench.timing.LEAST_SECONDS", 0.0)
    monkeypatch.setattr("maskrcnn.bench.ceilings.COPIED", {"cpu": 2**20})
    monkeypatch.setattr("maskrcnn.bench.ceilings.SIDE", {"cpu": 64})


@pytest.fixture
def bench(maskrcnn, recipe, tmp_path):
    """Run `maskrcnn bench VERB`; gives the first column of its tables."""

    def run(verb, *words):
        out = tmp_path / "out"
        assert maskrcnn("bench", verb, recipe, "--batch", 2, "--repeats", 1, "--out", out, *words) == 0
        [path] = out.glob("*.json")
        assert path.with_suffix(".md").is_file()
        sections = msgspec.json.decode(path.read_bytes(), type=Results).sections
        return [[next(iter(row.values())) for row in section.rows] for section in sections]

    return run


def test_train_times_the_parts_of_a_step(bench, capsys):
    [stages] = bench("train", "--no-peer")
    assert stages == [
        "feeding",
        "decoding and feeding alone, 1 threads",
        "forward and losses",
        "backward",
        "reduction",
        "clip and optimizer",
        "whole step",
    ]
    text = capsys.readouterr().out
    for fact in ("bucket 64 x 64", "batch 2", "precision float32", "torch ", "commit ", "TFLOP/s", "images/s"):
        assert fact in text
    assert "torchvision was not asked for" in text


def test_predict_times_stages_and_single_images(bench):
    stages, detections = bench("predict", "--no-peer")
    assert stages == ["backbone and FPN", "RPN", "box head", "mask head", "whole, batch 2", "whole, batch 1"]
    assert detections == ["2", "1"]


def test_eval_times_everything_between_files_and_scores(bench):
    [parts] = bench("eval", "--no-peer")
    assert parts[-2:] == ["whole, once everything is warm", "whole, as it was"]


def test_ops_need_no_data_and_results_of_a_day_share_a_file(bench):
    bench("train", "--no-peer")
    stages, operators = bench("ops", "data.dataset_dir=nowhere", "train.mixed_precision=true")
    assert len(stages) == 7
    assert operators[:2] == ["match", "nms, levels"]


def test_beside_torchvision(bench):
    pytest.importorskip("torchvision")
    [stages, *_] = bench("train", "model.backbone.width=64", "model.neck.channels=64")
    assert "whole step, 6 mask RoIs per image" in stages or "whole step" in stages


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bucket", "64"], "error: --bucket: expected HEIGHTxWIDTH in multiples of 32, such as 800x1344, got 64"),
        (["train.execution=captured"], "error: train.execution: captured needs a CUDA GPU"),
        (["data.dataset_dir=nowhere"], "error: the data set's folder nowhere does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_a_sentence(words, sentence, maskrcnn, recipe, tmp_path, capsys):
    assert maskrcnn("bench", "train", recipe, "--out", tmp_path, "--no-peer", *words) == 2
    assert sentence in capsys.readouterr().err
