"""The benchmark of annotation files runs, and what it draws is read as it was meant."""

import json
import sys

import numpy as np
import pytest

from maskrcnn.data.formats.coco import read


def test_a_drawn_file_holds_what_it_should(benchmark, tmp_path):
    paths = benchmark.draw_split(tmp_path, 30, 2000)
    data = read(*paths)
    assert (len(data.image_ids), len(data.labels), data.notes) == (30, 2000, ())
    assert 0 < data.crowd.mean() < 0.03
    points = np.diff(data.rings.first[data.first_ring])[~data.crowd]
    assert 18 < points.mean() < 26
    assert len(paths[0].read_bytes()) == pytest.approx(2000 * 444e6 / 860e3, rel=0.15)
    assert json.loads(paths[0].read_text())["annotations"][0]["id"] == 1


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_it_runs_in_tiny_form_and_both_sides_agree(benchmark):
    pytest.importorskip("pycocotools", reason="the peer, pycocotools, is not installed")
    opens, processes, samples = benchmark.run(images=48, objects=2500, repeats=1, processes=2, samples=(16, 32))
    assert [row[""] for row in opens.rows] == ["first open", "later open"]
    assert all(row["ratio of seconds"] > 0 for row in opens.rows)
    assert [row[""] for row in processes.rows] == ["first open, 2 processes at once", "later open, 2 processes at once"]
    assert [row["samples drawn"] for row in samples.rows] == [16, 32]
