import errno
import io
import json
import re
import time

import pytest
from rich.console import Console

import maskrcnn.train.log
from maskrcnn.files import DiskFull
from maskrcnn.sentences import Note
from maskrcnn.train.log import Log, evaluations, is_stale, quality
from maskrcnn.train.window import Means

MEANS = Means({"rpn/box": 0.5, "mask_head/mask": 1.0}, {"rois": 7.0}, steps_per_second=2.0, waiting=0.25)
POSITION = {"total_steps": 20, "epoch": 1, "lr": 0.01, "images": 3}


def scores(ap: float | None) -> dict[str, dict[str, float | None]]:
    return {"bbox": {"AP": 0.5, "AP50": None}, "segm": {"AP": ap, "AP50": 0.25}}


def rows(out) -> list[dict]:
    written = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(row.pop("crc32") for row in written)
    return written


@pytest.fixture
def log(tmp_path):
    console = Console(file=io.StringIO(), width=40, soft_wrap=True, highlight=False)
    with Log(tmp_path, is_main=True, console=console) as log:
        yield log


def test_a_window_becomes_one_line_of_json_and_one_of_text(log, tmp_path):
    log.steps(MEANS, step=10, **POSITION)
    (row,) = rows(tmp_path)
    assert row.pop("seconds") >= 0
    assert row == {
        "step": 10,
        "epoch": 1,
        "lr": 0.01,
        "losses": {"rpn/box": 0.5, "mask_head/mask": 1.0},
        "counts": {"rois": 7.0},
        "total": 1.5,
        "images_per_second": 6.0,
        "waiting": 0.25,
    }
    line = (
        "step 10/20  0:00:05 left  epoch 1  loss 1.500  lr 1.00e-02  6.0 images/s  waiting 25%  "
        "rpn/box 0.500  mask_head/mask 1.000"
    )
    assert (tmp_path / "log.txt").read_text().endswith(f"  {line}\n")
    assert log.console.file.getvalue() == f"{line}\n"


def test_what_is_left_of_a_given_time_is_told(log, tmp_path):
    log.steps(MEANS, step=10, left=83.4, **POSITION)
    assert rows(tmp_path)[0]["seconds_left"] == 83.4
    assert (tmp_path / "log.txt").read_text().partition("  ")[2].startswith("step 10/20  0:01:23 left  epoch 1")


@pytest.mark.parametrize(
    ("history", "patience", "stale"),
    [
        ([0.1, 0.3, 0.2, 0.3], 2, True),
        ([0.1, 0.3, 0.2, 0.31], 2, False),
        ([0.1, 0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.1], 0, False),
        ([0.0, 0.0, 0.0], 1, False),
        ([], 1, False),
    ],
)
def test_patience_counts_evaluations_that_do_not_exceed_the_best(history, patience, stale):
    assert is_stale(history, patience) == stale


def test_a_number_that_is_not_finite_stays_valid_json(log, tmp_path):
    log.steps(MEANS._replace(counts={"gradient_norm": float("inf")}), step=10, **POSITION)
    assert rows(tmp_path)[0]["counts"] == {"gradient_norm": None}


def test_evaluations_become_a_table(log, tmp_path):
    log.evaluation({**scores(0.125), "speed": {"predict": 3.0}}, step=5, epoch=1)
    log.evaluation(scores(None), step=10, epoch=2)
    assert [row["evaluation"] for row in evaluations(tmp_path)] == [scores(0.125), scores(None)]
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "step,epoch,bbox/AP,bbox/AP50,segm/AP,segm/AP50",
        "5,1,0.5,,0.125,0.25",
        "10,2,0.5,,,0.25",
    ]


def test_the_future_of_an_earlier_run_is_forgotten_and_so_is_half_a_line(log, tmp_path):
    for step in (5, 10):
        log.steps(MEANS, step=step, **POSITION)
        log.evaluation(scores(step / 100), step=step, epoch=1)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1')
    with pytest.warns(Note, match=r"metrics\.jsonl: 1 line is not what was written and is left out: line 5$"):
        log.forget_after(5)
    assert [row["step"] for row in rows(tmp_path)] == [5, 5]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 2


def test_a_line_with_a_flipped_bit_is_left_out_of_all_that_follows(log, tmp_path):
    for step in (5, 10, 15):
        log.evaluation(scores(step / 100), step=step, epoch=1)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":10', b'"step":14'))
    with pytest.warns(Note, match="line 2$"):
        log.forget_after(15)
    assert [row["step"] for row in evaluations(tmp_path)] == [5, 15]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3
    assert [row["step"] for row in rows(tmp_path)] == [5, 15]


@pytest.fixture
def full(monkeypatch):
    """A disk with room for nothing, until the list is emptied."""
    reasons, write = [errno.ENOSPC], maskrcnn.train.log.append

    def append(path, content):
        if reasons:
            raise DiskFull(reasons[0], f"{path} could not be written")
        write(path, content)

    monkeypatch.setattr("maskrcnn.train.log.append", append)
    return reasons


def test_on_a_full_disk_training_goes_on_and_its_lines_come_later(log, tmp_path, full):
    log.steps(MEANS, step=10, **POSITION)
    log.say("a sentence")
    assert list(tmp_path.iterdir()) == []
    told = log.console.file.getvalue()
    assert told.count("could not be written; training goes on, and tries again") == 1
    full.clear()
    log.evaluation(scores(0.5), step=10, epoch=1)
    assert len(rows(tmp_path)) == 2
    assert "a sentence\n" in (tmp_path / "log.txt").read_text()


def test_lines_that_found_no_room_to_the_end_are_an_error(tmp_path, full):
    def run(error: Exception | None) -> None:
        with Log(tmp_path, is_main=True) as log:
            log.say("a sentence")
            if error:
                raise error

    with pytest.raises(DiskFull, match=r"log\.txt could not"):
        run(None)
    with pytest.raises(ValueError, match="another error"):
        run(ValueError("another error"))


def test_the_other_processes_are_silent(tmp_path, capsys):
    with Log(tmp_path, is_main=False, tensorboard=True) as log:
        log.say("hello")
        log.show_progress(0, 20)
        log.steps(MEANS, step=10, **POSITION)
        log.evaluation(scores(0.5), step=10, epoch=1)
        log.forget_after(0)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_a_terminal_sees_a_bar_and_the_file_sees_lines(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with Log(tmp_path, is_main=True, console=console) as log:
        log.show_progress(9, 20)
        log.advance()
        log.steps(MEANS, step=10, **POSITION)
    assert "10/20" in console.file.getvalue()
    assert "loss 1.500" in console.file.getvalue()
    assert "step 10/20" in (tmp_path / "log.txt").read_text()


def test_a_narrow_terminal_cuts_the_numbers_and_keeps_the_bar(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=50)
    with Log(tmp_path, is_main=True, console=console) as log:
        log.show_progress(10, 20)
        log.steps(MEANS, step=10, **POSITION)
    assert re.search(r"10/20.* epoch 1  loss \N{HORIZONTAL ELLIPSIS}", console.file.getvalue())


def test_what_is_said_after_the_steps_stands_below_the_bar(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=200)
    with Log(tmp_path, is_main=True, console=console) as log:
        log.show_progress(10, 20)
        log.end_progress()
        log.say("report: here")
    assert console.file.getvalue().endswith("report: here\n")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_evaluation_is_spoken_of(tmp_path, terminal, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    with Log(tmp_path, is_main=True, console=console) as log:
        log.show_progress(10, 20)
        ticker = log.ticker()
        for done in (2, 4, 8):  # of 8 pictures, a minute for each
            clock[0] += 60 * (2 if done < 8 else 4)
            ticker(done, 8)
            if terminal:
                log._bar.refresh()
    told = console.file.getvalue()
    assert "evaluating: 25% done, 0:06:00 left" in told
    assert "evaluating: 50% done, 0:04:00 left" in told
    assert "scoring" in told
    assert not (tmp_path / "log.txt").exists()


def test_mpirun_gets_lines_though_it_looks_like_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    console = Console(file=io.StringIO(), force_terminal=True, width=40, soft_wrap=True, highlight=False)
    with Log(tmp_path, is_main=True, console=console) as log:
        log.show_progress(9, 20)
        log.steps(MEANS, step=10, **POSITION)
    assert console.file.getvalue().startswith("step 10/20  0:00:05 left  epoch 1  loss 1.500")


def test_brackets_in_names_are_not_markup(log):
    log.say("class [red] is a class")
    assert log.console.file.getvalue() == "class [red] is a class\n"


@pytest.mark.parametrize(
    ("given", "value"), [(scores(0.25), 0.25), (scores(None), 0.0), ({"bbox": {"AP": 0.75}}, 0.75)]
)
def test_best_means_the_best_masks_else_the_best_boxes(given, value):
    assert quality(given) == value


def test_tensorboard_is_written_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    with Log(tmp_path, is_main=True, tensorboard=True, console=Console(quiet=True)) as log:
        log.steps(MEANS, step=10, **POSITION)
        log.evaluation(scores(None), step=10, epoch=1)
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_missing_tensorboard_is_said_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        Log(tmp_path, is_main=True, tensorboard=True)


def test_time_counts_from_the_persons_command_where_that_is_known(tmp_path):
    with Log(tmp_path, is_main=True, begun=time.perf_counter() - 60) as log:
        assert 60 <= log.seconds() < 70
