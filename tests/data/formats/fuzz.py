"""Malformed files of every format, drawn from a seed: what exporters, editors and broken disks make of good ones."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

HEIGHT, WIDTH = 40, 60
DEEP = 100_000
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**64, -(2**63), 10**30, 10**400, 1e300, -1e300, 0.5, -0.0),
    *(
        math.nan,
        math.inf,
        -math.inf,
        "",
        "0",
        "7",
        "12.0",
        "abc",
        "\u0000",
        "\ud7ff",
        "../../1.png",
        "b'0o'",
        "x" * 5000,
    ),
    *([], [[]], [[[]]], {}, [None], [1, 2], [[1, 2], [3, 4]], [1, 2, 3, 4, 5], {"counts": "0o", "size": [1, 5]}),
    *(
        {"counts": [2400], "size": [HEIGHT, WIDTH]},
        {"counts": [10**20], "size": [10**12, 1]},
        {"counts": {}},
        [[7] * 6],
    ),
)
"""Values that stand where others belong."""
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "latin-1", "cp1252")
Mutation = Callable[[Random, Any], None]


def coco(random: Random, folder: Path) -> tuple[Path, Path]:
    """A COCO instances file with some faults, and the folder of its images."""
    images = folder / "pictures"
    images.mkdir(exist_ok=True)
    for name in ("1.png", "2.png"):
        if not (images / name).exists():
            Image.new("RGB", (WIDTH, HEIGHT)).save(images / name)
    content = coco_content(random)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
        random.choice((replace, remove, repeat, spell, spell_all))(random, content)
    path = folder / "instances.json"
    path.write_bytes(damage(random, json.dumps(content, ensure_ascii=random.random() < 0.5)))
    return path, images


def coco_content(random: Random) -> dict[str, Any]:
    """Two images with up to six objects."""
    outlines = (
        [[5, 6, 25, 6, 25, 30, 5.5, 30]],
        {"size": [HEIGHT, WIDTH], "counts": [5, 30, HEIGHT * WIDTH - 35]},
        {"size": [HEIGHT, WIDTH], "counts": "5n0U[2"},
        [],
        None,
    )
    rows = [
        {
            "id": id,
            "image_id": random.randint(1, 2),
            "category_id": random.choice((3, 7)),
            "bbox": [5, 6, 20, 24],
            "area": 480.5,
            "iscrowd": random.randint(0, 1),
            "segmentation": random.choice(outlines),
            "note": {"by": "J\u00fcrgen", "tags": [1, "a"]},
        }
        for id in range(1, random.randint(2, 7))
    ]
    images = [{"id": id, "file_name": f"{id}.png", "height": HEIGHT, "width": WIDTH} for id in (1, 2)]
    categories = [{"id": 7, "name": "cup"}, {"id": 3, "name": "k\u00e4se"}]
    return {"images": images, "annotations": rows, "categories": categories}


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every (list or dict, index or key) within some content."""
    found = []
    keys = content.keys() if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        found += [(content, key), *places(content[key])]
    return found


def replace(random: Random, content: Any) -> None:
    """Put another value in some place."""
    where, key = random.choice(places(content))
    where[key] = json.loads(json.dumps(random.choice(NASTY)))


def remove(random: Random, content: Any) -> None:
    """Take something out."""
    where, key = random.choice(places(content))
    del where[key]


def repeat(random: Random, content: Any) -> None:
    """List something twice."""
    lists = [(where, key) for where, key in places(content) if isinstance(where, list)]
    if lists:
        where, key = random.choice(lists)
        where.insert(random.randint(0, len(where)), json.loads(json.dumps(where[key])))


def spell(random: Random, content: Any) -> None:
    """Write a number as text or a decimal, or a text in other letters."""
    where, key = random.choice(places(content))
    where[key] = spelt(random, where[key])


def spell_all(random: Random, content: Any) -> None:
    """The same wherever one key stands."""
    key = random.choice(("id", "image_id", "category_id", "bbox", "iscrowd", "height", "file_name", "segmentation"))
    for where, one in places(content):
        if one == key:
            where[key] = spelt(random, where[key])


def spelt(random: Random, value: Any) -> Any:
    if isinstance(value, list):
        return [spelt(random, one) for one in value]
    if isinstance(value, str):
        return random.choice(
            (value.upper(), value.replace(".", "%2E"), f"a\\{value}", f"http://x/{value}", f"b'{value}'")
        )
    if isinstance(value, int | float) and abs(value) < 2**53:
        return random.choice((str(value), float(value), f" {value}", -value))
    return value


def damage(random: Random, text: str) -> bytes:
    """The text in some encoding, now and then with broken bytes."""
    if random.random() < 0.05:
        at = random.randint(0, len(text))
        brackets = random.choice(("[", '{"a":', "[" * 50 + "]" * 50))
        text = text[:at] + brackets * random.choice((3, DEEP)) + text[at:]
    encoding = random.choice(ENCODINGS) if random.random() < 0.15 else "utf-8"
    data = bytearray(text.encode(encoding, "replace"))
    if random.random() < 0.15:
        for _ in range(random.randint(1, 4)):
            data[random.randrange(len(data))] = random.randrange(256)
    if random.random() < 0.1:
        del data[random.randint(0, len(data)) :]
    return bytes(data)
