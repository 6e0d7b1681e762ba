"""The command surface: what people type. A change here is a change for them."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from maskrcnn.cli.app import app

REPOSITORY = Path(__file__).parents[2]
SURFACE = """
bench eval CONFIG [OVERRIDES] --batch --repeats --peer --out
bench ops CONFIG [OVERRIDES] --batch --repeats --bucket --out
bench predict CONFIG [OVERRIDES] --batch --repeats --bucket --peer --out
bench train CONFIG [OVERRIDES] --batch --repeats --bucket --peer --out
convert [SOURCE] [DEST] [OVERRIDES] --to --channels --list
data check SOURCE [OVERRIDES] --deep --strict --json --page --fix
data convert SOURCE DEST [OVERRIDES] --to --shard-size
data plan SOURCE [OVERRIDES] --out
data shapes FOLDER --num-train --num-val --seed --side
data show SOURCE [OVERRIDES] --out --split --count --augmented --draws
data split SOURCE [OVERRIDES] --out
data stats SOURCE [OVERRIDES] --out --split --sample --json
demo [OVERRIDES] --out
doctor --prove --warm
eval [CONFIG] [OVERRIDES] --weights --annotations --predictions --out --max-dets --boundary --tile --scales --flip
predict WEIGHTS SOURCES --out --score --device --precision --recursive --classes --tile --to --scales --flip \
--max-pixels --shard --format --draw --join
train CONFIG [OVERRIDES] --resume --weights --out
"""


def lines(command, name: str):
    if hasattr(command, "commands"):
        for inner_name, inner in command.commands.items():
            yield from lines(inner, f"{name} {inner_name}".strip())
        return
    words = [name]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            words.append(parameter.name.upper() if parameter.required else f"[{parameter.name.upper()}]")
        else:
            words.append(parameter.opts[0])
    yield " ".join(words)


def test_the_commands_and_their_options_are_these():
    assert "\n".join(sorted(lines(get_command(app), ""))) == SURFACE.strip()


@pytest.mark.parametrize(
    "words",
    [[], ["train"], ["eval"], ["predict"], ["convert"], ["data", "show"], ["demo"], ["doctor"], ["bench", "train"]],
)
def test_help_answers_without_importing_anything_heavy(words):
    code = (
        "import sys\n"
        "from maskrcnn.cli import main\n"
        "try:\n"
        f"    main({[*words, '--help']})\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'numpy', 'numba', 'matplotlib', 'hotcoco', 'rich', 'yaml'} & set(sys.modules)\n"
        "    sys.exit(end.code or ' '.join(sorted(heavy)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: maskrcnn {' '.join(words)}".strip())


@pytest.mark.parametrize(
    ("door", "flags"),
    [
        ("train.py", {"--config", "--device_target", "--mix", "--resume_ckpt", "--batch_size", "--lr_init", "--seed"}),
        ("eval.py", {"--config", "--device_target", "--mix", "--ckpt_path", "--eval_parallel"}),
        ("infer.py", {"--config", "--device_target", "--mix", "--ckpt_path", "--imgs", "--save_dir"}),
    ],
)
def test_the_doors_keep_their_flags(door, flags):
    done = subprocess.run([sys.executable, str(REPOSITORY / door), "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert flags <= set(done.stdout.replace(",", " ").split())
