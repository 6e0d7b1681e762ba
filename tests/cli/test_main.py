"""How commands end."""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from maskrcnn import cli
from maskrcnn.cli import main, run_and_exit


def end_of(call, *arguments) -> int:
    with pytest.raises(SystemExit) as end:
        call(*arguments)
    return end.value.code


def fails(error: BaseException):
    def command():
        raise error

    return command


def test_a_command_that_is_done_exits_with_0():
    assert end_of(run_and_exit, lambda: None) == 0


@pytest.mark.parametrize("kind", [ValueError, TypeError, FileNotFoundError, PermissionError, FloatingPointError])
def test_an_error_is_a_sentence_and_exits_with_2(kind, capsys):
    assert end_of(run_and_exit, fails(kind("expected a cat, got a dog"))) == 2
    assert capsys.readouterr() == ("", "error: expected a cat, got a dog\n")


def test_what_pillow_says_of_some_file_is_not_repeated():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for module in ("PIL.PngImagePlugin", "other"):
            code = f"import warnings; warnings.warn('{module}')"
            end_of(run_and_exit, lambda code=code, module=module: exec(code, {"__name__": module}))
    assert [str(one.message) for one in said] == ["other"]


def test_debugging_shows_where_an_error_was_raised(monkeypatch):
    monkeypatch.setenv("MASKRCNN_DEBUG", "1")
    with pytest.raises(ValueError, match="a cat"):
        run_and_exit(fails(ValueError("a cat")))


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(AssertionError):
        run_and_exit(fails(AssertionError("ours")))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interrupted_command_says_so_and_exits_with_130(error, capsys):
    assert end_of(run_and_exit, fails(error)) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "end"), [(signal.SIGINT, (130, "interrupted\n")), (signal.SIGTERM, (143, "terminated\n"))]
)
def test_each_signal_has_its_code_and_word(number, end, capsys):
    def command():
        signal.raise_signal(number)

    assert (end_of(run_and_exit, command), capsys.readouterr().err) == end


def test_whatever_an_interrupted_import_raises_the_signal_is_what_is_told(capsys):
    def command():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy cannot be imported") from None

    assert (end_of(run_and_exit, command), capsys.readouterr().err) == (143, "terminated\n")


def test_an_error_while_the_last_state_is_saved_is_told_though_a_signal_came(capsys):
    def command():
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise OSError("no room") from None

    assert (end_of(run_and_exit, command), capsys.readouterr().err) == (2, "error: no room\n")


IMPORTING = """
import os, signal, sys
from maskrcnn.cli import be_ready
assert not {"typer", "numpy", "torch"} & set(sys.modules)
be_ready()
os.kill(os.getpid(), int(sys.argv[1]))
"""
LEAVING = """
import signal, time
from maskrcnn.cli import run_and_exit
from maskrcnn.train import interrupt

def command():
    interrupt.StopRequest._listening.deferring = True
    interrupt.time.monotonic = iter([1.0, 3.0]).__next__
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(number)

run_and_exit(command)
"""


@pytest.mark.parametrize(
    ("program", "number", "end"),
    [
        (IMPORTING, signal.SIGINT, (130, "interrupted\n")),
        (IMPORTING, signal.SIGTERM, (143, "terminated\n")),
        (LEAVING, 0, (143, "ended at once: what was not saved is lost\n")),
    ],
)
def test_a_signal_while_modules_are_imported_and_a_second_one_end_the_process_at_once(program, number, end):
    source = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number))],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == end


def test_a_wrong_recipe_is_told_without_a_traceback(capsys):
    assert end_of(main, ["train", "demo", "--train.epoch", "3"]) == 2
    assert capsys.readouterr().err == (
        "error: train.epoch: no such setting; did you mean train.epochs? (command line)\n"
    )


def test_an_unknown_command_exits_with_2(capsys):
    assert end_of(main, ["tarin"]) == 2
    assert "tarin" in capsys.readouterr().err


def test_a_warning_of_the_package_is_a_sentence_and_others_say_where(capsys):
    def command():
        warnings.warn("from elsewhere", stacklevel=1)
        warnings.warn_explicit("from here", UserWarning, cli.__file__, 1)

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("always")
        patch.setattr(warnings, "showwarning", lambda *given: sys.stderr.write(warnings.formatwarning(*given[:4])))
        assert end_of(run_and_exit, command) == 0
    said = capsys.readouterr().err
    assert said.endswith("warning: from here\n")
    assert f"{__file__}:" in said
