"""The benchmark of `maskrcnn data check` runs on photos that have nothing wrong."""

from maskrcnn.config import Data
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.health.check import entries, examine
from maskrcnn.data.split import read_part


def test_headers_and_pixels_are_timed(benchmark):
    section = benchmark.run(12, repeats=1)
    assert [row["what"] for row in section.rows] == ["headers", "headers and pixels"]
    assert all(row["seconds"] > 0 for row in section.rows)


def test_the_photos_are_fine_and_begin_as_those_of_cameras_do(benchmark, tmp_path):
    folder = benchmark.make_photos(tmp_path / "data", 100)
    settings, faults = Data(dataset_dir=str(folder)), Faults()
    train = read_part(settings, "train", faults)
    assert train is not None
    assert len(train.image_ids) == 98
    found = entries(examine({"train": train}, {"train": faults}, {}, deep=True))
    assert {one.kind.severity for one in found} <= {Severity.NOTE}
    assert (folder / "train2017" / "7.jpg").stat().st_size > 25_000
