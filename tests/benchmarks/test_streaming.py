"""The benchmark of streaming runs on a small data set, and says how long both ways waited."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="obstore is not installed")

from maskrcnn.data.shapes import generate

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "streaming.py"
SMALL = ("--step", "0.01", "--steps", "4", "--batch", "2", "--read-ahead", "4")


def test_it_says_how_long_was_waited(tmp_path):
    folder = generate(tmp_path / "shapes", num_train=6, num_val=0, side=64)
    command = [sys.executable, str(BENCHMARK), "--data", str(folder), *SMALL]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    pattern = r"^(\w+): opened in .* then 4 steps of 2 images in .* waited each: [\d.]+%$"
    assert re.findall(pattern, told, re.MULTILINE) == ["stream", "copy"]
