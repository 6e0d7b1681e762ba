"""Output that nobody reads any more."""

import os

import pytest

from maskrcnn.cli import run_and_exit


@pytest.mark.parametrize("code", [None, 1])
def test_a_broken_pipe_ends_in_silence_with_its_own_code(code, monkeypatch, capfd):
    reading, writing = os.pipe()
    os.close(reading)

    def command():
        print("one line, held back until the end")
        if code is not None:
            raise SystemExit(code)

    with monkeypatch.context() as patch:
        stream = os.fdopen(writing, "w")
        patch.setattr("sys.stdout", stream)
        with pytest.raises(SystemExit) as end:
            run_and_exit(command)
    assert end.value.code == 141
    assert not capfd.readouterr().err
