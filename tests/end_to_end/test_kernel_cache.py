"""A prediction comes wherever compiled kernels cannot be kept or were damaged, with one sentence."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from maskrcnn.bench.setup import trained_like
from maskrcnn.recipes import read_recipe
from maskrcnn.weights import save_weights


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Weights of the demo's network, and a picture."""
    folder = tmp_path_factory.mktemp("place")
    recipe = replace(read_recipe("demo", []), classes=("cat", "dog"), category_ids=(1, 2))
    save_weights(folder / "weights", trained_like(recipe.model, 2), recipe, {})
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder


def predict(place: Path, cache: Path, temporary: Path) -> list[str]:
    """What a person reads on stderr."""
    temporary.mkdir(exist_ok=True)
    environment = {**os.environ, "MASKRCNN_CACHE": str(cache), "TMPDIR": str(temporary)}
    command = [
        sys.executable,
        "-m",
        "maskrcnn",
        "predict",
        "weights",
        "picture.png",
        "--out",
        "found",
        "--score",
        "0.1",
    ]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (place / "found" / "picture.png").is_file()
    shutil.rmtree(place / "found")
    return done.stderr.splitlines()


def test_a_cache_that_cannot_be_written_or_was_damaged_costs_a_sentence_each(place, tmp_path):
    forbidden, temporary = tmp_path / "file", tmp_path / "temporary"
    forbidden.write_text("no folder")
    first, *lines = predict(place, forbidden, temporary)
    assert first.startswith("compiling kernels for this machine, 0 of ")
    assert lines[-1].startswith("kernels compiled in ")
    [warning] = [line for line in lines if not re.match(r"compiling kernels|kernels compiled", line)]
    [kernels] = temporary.iterdir()
    assert warning.startswith(f"warning: compiled kernels cannot be kept in {forbidden}/kernels (")
    assert warning.endswith(f") and are kept in {kernels}; MASKRCNN_CACHE names another folder")

    whole = {path: path.read_bytes() for path in kernels.glob("ops.nms.*")}
    assert len(whole) > 1
    for path, content in whole.items():
        path.write_bytes(content[:-7])
    assert predict(place, forbidden, temporary) == [
        f"warning: a compiled kernel in {kernels} is damaged; it is compiled anew",
        "compiling kernels for this machine: some seconds",  # not those of any task
        warning,
    ]
    assert len([path for path, content in whole.items() if path.read_bytes() != content[:-7]]) > 1
