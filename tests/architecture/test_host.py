"""What the host of the repository reads: workflows, forms, hooks, the citation. What they call exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from maskrcnn.cli.app import app

REPOSITORY = Path(__file__).parents[2]
GITHUB = REPOSITORY / ".github"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TARGETS = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
FORMS = [path for path in sorted((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


WORKFLOWS = {path.stem: read(path) for path in sorted((GITHUB / "workflows").glob("*.yml"))}
JOBS = {f"{name}/{key}": job for name, workflow in WORKFLOWS.items() for key, job in workflow["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job.get("steps", ())]
COMMANDS = [step["run"] for step in STEPS if "run" in step]


def test_workflows_may_only_read_but_for_the_two_jobs_that_publish():
    assert {name: workflow["permissions"] for name, workflow in WORKFLOWS.items()} == {
        "ci": {"contents": "read"},
        "release": {"contents": "read"},
    }
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "release/publish": {"id-token": "write"},
        "release/page": {"contents": "write"},
    }


def test_jobs_end_in_time_and_wait_for_jobs_that_exist():
    for name, job in JOBS.items():
        assert "uses" in job or job["timeout-minutes"] <= 45, name
        assert "needs" not in job or f"{name.partition('/')[0]}/{job['needs']}" in JOBS, name


def test_actions_are_pinned_to_a_major_version_and_workflows_of_ours_exist():
    used = [step["uses"] for step in STEPS if "uses" in step] + [job["uses"] for job in JOBS.values() if "uses" in job]
    ours = [one for one in used if one.startswith("./")]
    assert ours
    assert all((REPOSITORY / one).is_file() for one in ours)
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", one) for one in set(used) - set(ours))


def test_what_workflows_and_hooks_make_exists():
    hooks = [
        hook for repository in read(REPOSITORY / ".pre-commit-config.yaml")["repos"] for hook in repository["hooks"]
    ]
    entries = [hook["entry"] for hook in hooks if hook["language"] == "system"]
    assert len(entries) == len(hooks)  # no version of a tool but that of constraints.txt
    made = [word for line in [*COMMANDS, *entries] for word in re.findall(r"^make (?:--\S+ )*([\w-]+)", line)]
    assert {"lint", "test", "release"} <= set(made) <= set(TARGETS)


def test_files_and_extras_that_workflows_name_exist():
    cached = {name for step in STEPS for name in step.get("with", {}).get("cache-dependency-path", "").split()}
    constraints = {name for line in COMMANDS for name in re.findall(r"--constraint (\S+)", line)}
    assert cached == {"pyproject.toml", "constraints.txt"}
    assert constraints == {"constraints.txt"}
    lists = [names for line in COMMANDS for names in re.findall(r"'\.\[([\w,-]+)\]'", line)]
    assert set(",".join(lists).split(",")) == {"lite", "test"} <= set(PROJECT["optional-dependencies"])


def test_every_python_that_the_project_names_is_tested():
    named = re.findall(r"Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert JOBS["ci/test"]["strategy"]["matrix"]["python"] == named
    assert PROJECT["requires-python"] == f">={named[0]}"
    assert JOBS["ci/fast"]["strategy"]["matrix"]["python"] == [named[0], named[-1]]


def test_other_systems_run_what_was_fast_on_linux_a_moment_ago():
    seconds = re.search(r'^SECONDS = "(\S+)"$', (REPOSITORY / "tests" / "conftest.py").read_text(), re.MULTILINE)[1]
    kept, taken = [step["with"] for step in STEPS if step.get("with", {}).get("name") == "seconds"]
    assert Path(kept["path"]) == Path(taken["path"]) / Path(seconds).name == Path(".pytest_cache", "v", seconds)
    assert JOBS["ci/fast"]["needs"] == "test"
    assert JOBS["ci/fast"]["steps"][-1]["run"].endswith(" --fast")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_asks_each_question_once_by_commands_that_exist(path):
    form = read(path)
    assert set(form) <= {"name", "description", "labels", "body"}
    questions = [part for part in form["body"] if part["type"] == "textarea"]
    assert {part["type"] for part in form["body"]} <= {"markdown", "textarea"}
    assert len({part["id"] for part in questions}) == len({part["attributes"]["label"] for part in questions})
    assert any(part.get("validations", {}).get("required") for part in questions)
    for words in re.findall(r"`maskrcnn ([a-z ]+)", path.read_text(encoding="utf-8")):
        command = get_command(app)
        for word in words.split():
            command = command.commands[word]


def test_versions_agree():
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## (\S+) \((?:unreleased|\d{4}-\d\d-\d\d)\)$", changelog, re.MULTILINE)
    citation = read(REPOSITORY / "CITATION.cff")
    assert first[1] == citation["version"] == PROJECT["version"]
    assert (citation["title"], citation["license"]) == (PROJECT["name"], PROJECT["license"])
    assert PROJECT["urls"]["Paper"] == citation["references"][0]["url"]
