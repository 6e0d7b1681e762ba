"""What is published: builds it into dist/, tries it in an environment of its own, and says what comes next.

    python tools/release.py                 a rehearsal, of any state of the repository
    python tools/release.py --tag v1.2.3    refuses a tag, a version or a changelog that do not agree

The changes of the version are written to build/notes.md, for the page of the release.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[1]
DIST, NOTES = REPOSITORY / "dist", REPOSITORY / "build" / "notes.md"
HEADING = re.compile(r"^## (\S+) \((.+)\)$", re.MULTILINE)
DATE = re.compile(r"\d{4}-\d\d-\d\d")
TRIES = (
    "maskrcnn --help",
    "maskrcnn doctor",
    "maskrcnn data shapes shapes --num-train 8 --num-val 2 --side 64",
    "maskrcnn train demo data.dataset_dir=shapes train.max_steps=1 --out run",
    "maskrcnn predict run shapes/val2017 --score 0 --out found",
)
"""What a person would do with it, in an empty folder, in an order in which each can be done."""
WRITTEN = "run/report.html", "run/weights/best/model.safetensors", "found/predictions.json"
"""What these leave: the report's template and the recipes were in the wheel."""
NEXT = """
dist/ holds maskrcnn {version}, built and tried. What is next, once the changelog bears a date and main has it:

    git tag v{version}
    git push origin v{version}
"""


class Changes(NamedTuple):
    """What the changelog says of a version."""

    version: str
    when: str
    """A date, or that it is unreleased."""
    text: str


def newest(changelog: str) -> Changes:
    """The version that stands first in the text of CHANGELOG.md. Raises ValueError where there is none."""
    parts = HEADING.split(changelog)[1:4]
    if not parts:
        raise ValueError("CHANGELOG.md: expected a heading such as `## 1.2.3 (unreleased)`, found none")
    return Changes(*map(str.strip, parts))


def check(changes: Changes, version: str, tag: str | None) -> None:
    """Raise ValueError where the changelog begins with another version; for a tag, also where it or a date is wrong.

    version   of pyproject.toml
    """
    if changes.version != version:
        raise ValueError(f"CHANGELOG.md: expected {version} first, as in pyproject.toml, found {changes.version}")
    if tag is not None and tag != f"v{version}":
        raise ValueError(f"expected the tag v{version}, as in pyproject.toml, received {tag}")
    if tag is not None and not DATE.fullmatch(changes.when):
        raise ValueError(f"CHANGELOG.md: expected a date behind {version}, found {changes.when!r}; write YYYY-MM-DD")


def build() -> Path:
    """Build the sdist, and the wheel out of it, without a network; gives the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    call(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", DIST)
    options = "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", DIST
    call(sys.executable, "-m", "pip", "wheel", *options, next(DIST.glob("*.tar.gz")))
    return next(DIST.glob("*.whl"))


def try_out(wheel: Path, folder: Path) -> None:
    """Install the wheel in an environment of its own, and do there what a person would."""
    venv.create(folder / "env", with_pip=True)
    programs, home = folder / "env" / "bin", folder / "home"
    home.mkdir()
    pinned = "--constraint", REPOSITORY / "constraints.txt"
    call(programs / "python", "-m", "pip", "install", "--quiet", *pinned, wheel, folder=home)
    for line in TRIES:
        print(f"\n$ {line}", flush=True)
        program, *words = line.split()
        call(programs / program, *words, folder=home)
    missing = [name for name in WRITTEN if not (home / name).is_file()]
    if missing:
        raise ValueError(f"expected the wheel to write {', '.join(WRITTEN)}; missing: {', '.join(missing)}")


def call(*command: str | Path, folder: Path = REPOSITORY) -> None:
    """Run a program in a folder, in which it also has its cache, and which is all that it knows of this machine."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MASKRCNN_"))}
    subprocess.run(command, cwd=folder, env=inherited | {"MASKRCNN_CACHE": str(folder / "cache")}, check=True)


def main() -> None:
    """Build, try, and say what is next."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tag", help="of the release; a rehearsal has none")
    tag = parser.parse_args().tag
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changes = newest((REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"))
    check(changes, version, tag)
    NOTES.parent.mkdir(exist_ok=True)
    NOTES.write_text(f"{changes.text}\n", encoding="utf-8")
    wheel = build()
    with tempfile.TemporaryDirectory() as folder:
        try_out(wheel, Path(folder))
    print(NEXT.format(version=version))


if __name__ == "__main__":
    main()
