"""Ready files for clusters name commands that exist; the Ray script gives what the command gives."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from tempfile import mkdtemp

import pytest
import yaml
from typer.main import get_command

from maskrcnn.cli.app import app
from maskrcnn.predict_shards import Shard, predict_shard
from tests.test_predict_shards import images, predictor, weights  # noqa: F401

DEPLOY = Path(__file__).parents[1] / "deploy"
SCRIPTS = sorted(DEPLOY.glob("*.sbatch"))


def commands_of(text: str) -> list[list[str]]:
    """Words of each command of a script, also of those that comments show, from `maskrcnn` on."""
    lines = re.sub(r"\\\n#?", " ", text).splitlines()
    found = [shlex.split(line.lstrip("# ")) for line in lines if re.search(r"\bmaskrcnn (train|predict)\b", line)]
    return [words[words.index("maskrcnn") + 1 :] for words in found]


def check(words: list[str]) -> None:
    """Fail unless these are words of a command of ours, with options that it has and all that it needs."""
    command = get_command(app).commands[words[0]]
    context = command.make_context(words[0], words[1:], resilient_parsing=False)
    unknown = [word for word in [*context.args, *(context.params.get("overrides") or [])] if word.startswith("-")]
    assert unknown == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_of_slurm_are_shell_and_name_our_commands(script):
    text = script.read_text()
    assert subprocess.run(["bash", "-n", script], capture_output=True).returncode == 0
    assert "set -euo pipefail" in text
    assert "#SBATCH --requeue" in text
    commands = commands_of(text)
    assert commands
    for words in commands:
        check([word.replace("$SLURM_ARRAY_TASK_ID/$SHARDS", "3/10") for word in words])


def test_the_array_has_as_many_tasks_as_there_are_shards():
    text = (DEPLOY / "slurm-predict.sbatch").read_text()
    last = re.search(r"--array=0-(\d+)", text)[1]
    assert int(re.search(r"SHARDS:-(\d+)", text)[1]) == int(last) + 1


def test_the_job_of_kubeflow_is_a_trainjob_that_starts_our_command():
    (job,) = yaml.safe_load_all((DEPLOY / "kubeflow-trainjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    trainer = job["spec"]["trainer"]
    assert trainer.keys() <= {"image", "command", "args", "env", "numNodes", "numProcPerNode", "resourcesPerNode"}
    assert trainer["command"][:3] == ["torchrun", "-m", "maskrcnn"]
    check(trainer["command"][3:])


def test_an_option_that_we_lack_is_noticed():
    with pytest.raises(Exception, match="No such option"):
        check(["predict", "w", "a", "--shards", "1/2"])


def test_ray_gives_what_the_command_gives(weights, predictor, images, tmp_path, monkeypatch, capsys):  # noqa: F811
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'maskrcnn[ray]'")
    monkeypatch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # which would leave a token in the home folder
    predict_shard(predictor, [images], tmp_path, Shard(0, 1), score=0.0)
    spec = importlib.util.spec_from_file_location("ray_predict", DEPLOY / "ray_predict.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    words = [str(weights), str(images), "--out", str(tmp_path / "ray"), "--score", "0", "--device", "cpu"]
    words += ["--precision", "fp32"]
    place = mkdtemp(prefix="ray-", dir="/tmp")  # its sockets want short paths
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20, _temp_dir=place)
    try:
        script.main([*words, "--actors", "2"])
    finally:
        ray.shutdown()
        shutil.rmtree(place, ignore_errors=True)
    expected = (tmp_path / Shard(0, 1).name("jsonl")).read_bytes()
    assert (tmp_path / "ray/predictions.jsonl").read_bytes() == expected
    script.main(words)
    assert "done: " in capsys.readouterr().out
