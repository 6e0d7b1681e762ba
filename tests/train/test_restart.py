import pytest

from maskrcnn.train.restart import goes_on, remember

AGAIN = {"TORCHELASTIC_RESTART_COUNT": "1", "TORCHELASTIC_RUN_ID": "none"}


def test_what_failed_and_was_started_again_goes_on(tmp_path):
    assert goes_on(tmp_path / "not there", AGAIN)
    assert not goes_on(tmp_path, {})


@pytest.mark.parametrize(("job", "continues"), [("77", True), ("none", False)])
def test_the_same_job_goes_on_though_nothing_failed(tmp_path, job, continues):
    first = {"TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_RUN_ID": job}
    assert not goes_on(tmp_path, first)
    remember(tmp_path, first)
    assert goes_on(tmp_path, first) == continues
    assert not goes_on(tmp_path, {**first, "TORCHELASTIC_RUN_ID": "78"})
