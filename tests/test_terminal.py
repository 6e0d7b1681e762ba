import io
import sys
import warnings

import pytest

from maskrcnn.cli import run_and_exit
from maskrcnn.sentences import in_lines, printable
from maskrcnn.status_line import StatusLine
from maskrcnn.terminal import Guarded, bare, guarded
from maskrcnn.train.log import Log

EVIL = "cat\x1b[2J\x9b31m\u202egpj\u2066\udcff\x07"
SEEN = "cat\\x1b[2J\\u009b31m\\u202egpj\\u2066\\udcff\\x07"


def test_what_a_terminal_would_obey_stands_as_it_is_written():
    assert printable(EVIL) == in_lines(EVIL) == SEEN
    assert printable("a\nb\tc") == "a\\nb\\tc"
    assert in_lines("a\nb\tc") == "a\nb\tc"
    assert printable("Käfer 甲虫 \U0001f41e\u00a0") == "Käfer 甲虫 \U0001f41e\u00a0"


def test_prints_warnings_and_errors_of_a_command_are_guarded(capsys):
    def command():
        print(EVIL)
        print(EVIL, file=sys.stderr)
        warnings.warn(EVIL.replace("\udcff", ""), stacklevel=1)  # a surrogate would stop the report of parallel tests
        raise ValueError(EVIL)

    with pytest.raises(SystemExit), warnings.catch_warnings():
        run_and_exit(command)
    told = capsys.readouterr()
    assert told.out == f"{SEEN}\n"
    assert told.err.count(SEEN) >= 2
    assert "\x1b" not in told.err


def test_wrong_arguments_are_repeated_without_their_codes(capsys):
    from maskrcnn.cli import main

    for arguments in (["predict", "--" + "x\x1b[2J"], ["\x1b[2Jtrain"], ["train", "demo", "train.\x1b[2J=3"]):
        with pytest.raises(SystemExit):
            main(arguments)
        told = capsys.readouterr()
        assert "\x1b" not in told.out + told.err
        assert "\\x1b[2J" in told.err


def test_a_run_says_and_notes_names_without_codes(tmp_path, capsys):
    with Log(tmp_path, is_main=True) as log:
        log.say(f"class {EVIL}")
    assert capsys.readouterr().out == f"class {SEEN}\n"
    assert SEEN in (tmp_path / "log.txt").read_text(encoding="utf-8")


def test_a_status_line_commands_the_terminal_and_its_words_do_not(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", Guarded(stream))
    StatusLine(every=0.1).say(EVIL, 0.0)
    assert stream.getvalue() == f"\r\x1b[K{SEEN}\r"
    assert bare(sys.stderr) is stream


def test_streams_are_as_before_behind_a_command():
    streams = sys.stdout, sys.stderr
    with guarded():
        assert sys.stdout.isatty() == streams[0].isatty()
        sys.stdout.writelines(["a\n"])
    assert (sys.stdout, sys.stderr) == streams
