"""Advice names flags that the program has which a person runs: `maskrcnn`, train.py, eval.py or infer.py."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskrcnn.cli import main, seed_scripts
from maskrcnn.sentences import speaking, typed

SOURCE = Path(__file__).parents[2] / "src" / "maskrcnn"
COMMANDS = (
    "app",
    "bench",
    "convert",
    "data",
    "doctor",
    "evaluate",
    "modelarts",
    "options",
    "predict",
    "seed_scripts",
)
OWN_WORDS = {f"cli/{name}.py" for name in COMMANDS}
"""Commands that speak of their own flags alone; no other program's words lead to those sentences."""
FLAG = re.compile(
    r"(?<![\w`-])(?<!maskrcnn doctor )(?<!maskrcnn convert )(?<!pip install )--[a-z][a-z_.]*|\bdevice=cpu\b"
)
SETTING = re.compile(r"--\w+\.")
"""Overrides of a recipe, which every program takes that has a recipe."""
DOORS = {
    "train.py": (seed_scripts.SAID_BY_TRAIN, {"--resume", "--out", "--weights", "device=cpu"}),
    "eval.py": (seed_scripts.SAID_BY_EVAL, {"--out", "--weights", "device=cpu"}),
    "infer.py": (seed_scripts.SAID_BY_INFER, {"--out", "--weights", "device=cpu", "precision bf16"}),
}
"""Their words, and those of `maskrcnn` that a sentence of theirs may need."""


def flags_in_prose(source: str) -> Iterator[tuple[int, str]]:
    """Line and flag of each string that names one, but for docstrings, help, and what `typed` is given."""
    tree = ast.parse(source)
    given = {id(word) for node in ast.walk(tree) if is_typed(node) for word in node.args}
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    documents |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "help"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in given | documents:
            for found in FLAG.finditer(node.value):
                if not SETTING.match(found[0]):
                    yield node.lineno, found[0]


def is_typed(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "typed"


def test_sentences_ask_the_program_for_the_names_of_flags():
    sources = {path.relative_to(SOURCE).as_posix(): path for path in sorted(SOURCE.rglob("*.py"))}
    found = [
        f"{name}:{line}: {flag}"
        for name, path in sources.items()
        if name not in OWN_WORDS and not name.startswith("bench/")
        for line, flag in flags_in_prose(path.read_text(encoding="utf-8"))
    ]
    assert found == [], "write typed('--flag'), which train.py and the others translate"


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        ('f"{out}; choose another --out"', ["--out"]),
        ("f\"{out}; choose another {typed('--out')}\"", []),
        ('1\n"""Set --out."""', []),
        ("'train.batch=8 or --train.batch 8'", []),
        ("'maskrcnn doctor --prove'", []),
        ("'or set device=cpu'", ["device=cpu"]),
    ],
)
def test_flags_in_sentences_are_found(source, flags):
    assert [flag for _, flag in flags_in_prose(f"told = {source}")] == flags


@pytest.mark.parametrize("door", DOORS)
def test_a_door_has_the_flags_that_it_advises(door, monkeypatch, capsys):
    said, words = DOORS[door]
    start = {"train.py": seed_scripts.train, "eval.py": seed_scripts.evaluate, "infer.py": seed_scripts.infer}[door]
    monkeypatch.setattr("sys.argv", [door, "--help"])
    with pytest.raises(SystemExit):
        start()
    flags = set(re.findall(r"--\w+", capsys.readouterr().out))
    with speaking(said):
        advised = {word for words in map(typed, words) for word in words.split() if word.startswith("--")}
    assert advised <= flags
    assert not any(typed(word) != word for word in words)  # outside, it is `maskrcnn` that speaks


def test_a_run_that_is_there_already_is_told_in_the_words_of_each_program(tmp_path, monkeypatch, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "--config", "demo", "--save_dir", "run"])
    for start, flags in (
        (seed_scripts.train, "go on with it by --resume_ckpt auto, or choose another --save_dir"),
        (lambda: main(["train", "demo", "--out", "run"]), "go on with it by --resume auto, or choose another --out"),
    ):
        with pytest.raises(SystemExit) as end:
            start()
        assert (end.value.code, capsys.readouterr().err) == (2, f"error: run already holds a run; {flags}\n")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("train.py --config demo --device_target gpu --save_dir new", "or set --device_target CPU"),
        ("eval.py --config demo --device_target gpu --ckpt_path here.pth", "or set --device_target CPU"),
        ("infer.py --ckpt_path here.pth --imgs photos --device_target gpu", "or set --device_target CPU"),
        ("maskrcnn predict here.pth photos --device gpu", "or set --device cpu"),
        ("maskrcnn train demo device=gpu --out new", "or set device=cpu"),
    ],
)
def test_a_device_that_is_not_there_is_told_in_the_words_of_each_program(words, remedy, tmp_path, monkeypatch, capsys):
    (tmp_path / "here.pth").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("maskrcnn.runtime.devices.num_devices", lambda kind: 0)
    program, *arguments = words.split()
    starts = {"train.py": seed_scripts.train, "eval.py": seed_scripts.evaluate, "infer.py": seed_scripts.infer}
    monkeypatch.setattr("sys.argv", [program, *arguments])
    with pytest.raises(SystemExit) as end:
        starts.get(program, lambda: main(arguments))()
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f"{remedy}\n")
