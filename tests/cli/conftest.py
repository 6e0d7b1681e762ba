"""Commands as a person types them."""

import sys

import pytest

from maskrcnn.cli import main, seed_scripts


@pytest.fixture(scope="session")
def maskrcnn():
    """Run `maskrcnn WORDS`; gives the exit code."""

    def run(*words: object) -> int:
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        return end.value.code

    return run


@pytest.fixture
def python(monkeypatch):
    """Run `python train.py WORDS`, eval.py or infer.py; gives the exit code."""
    by_file = {"train.py": seed_scripts.train, "eval.py": seed_scripts.evaluate, "infer.py": seed_scripts.infer}

    def run(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as end:
            by_file[str(words[0])]()
        return end.value.code

    return run
