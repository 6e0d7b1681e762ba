"""The benchmark of evaluation runs, and all sides tell the same numbers."""

import pytest


@pytest.fixture(scope="module")
def folder(benchmark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    benchmark.make(folder, num_images=9)
    return folder


@pytest.mark.parametrize("side", ["ours, streamed", "pycocotools", "faster-coco-eval"])
def test_every_side_tells_the_same_numbers(benchmark, folder, side):
    if side in benchmark.PEERS:
        pytest.importorskip(side.replace("-", "_"), reason=f"the peer, {side}, is not installed")
    ours, other = (benchmark.measure(name, folder) for name in ("ours", side))
    assert 0.1 < ours["numbers"]["segm"][0] < 0.9
    assert benchmark.difference(ours["numbers"], other["numbers"]) <= 1e-12
    assert benchmark.total(other) > 0


def test_a_table_has_a_row_for_each_side_and_ratios_to_the_peers(benchmark):
    runs = {
        "ours": [{"seconds": {"ready": 9.0, "all": 2.0}, "memory": 100.4}],
        "ours, streamed": [{"seconds": {"reading": 7.0, "meanwhile": 3.0, "afterwards": 1.0}, "memory": 90.0}],
        "pycocotools": [{"seconds": {"all": 12.0}, "memory": 300.0}],
    }
    first, streamed, after, peer = benchmark.table(runs)
    assert first == {"side": "ours", "seconds": 2.0, "peak MB": 100, "pycocotools / it": 6.0}
    assert (streamed["seconds"], streamed["pycocotools / it"], after["seconds"]) == (4.0, 3.0, 1.0)
    assert peer == {"side": "pycocotools", "seconds": 12.0, "peak MB": 300}
