from maskrcnn.evaluate import progress_lines


def test_the_time_that_is_left_is_told_once_an_image_is_done(monkeypatch):
    """Batches of tiles come before the first image of many is done."""
    told = []
    monkeypatch.setattr(progress_lines.time, "monotonic", iter([0.0, 70.0, 80.0, 140.0, 200.0]).__next__)
    tick = progress_lines.Ticker(told.append, every=60.0)
    for done in (0, 0, 1, 2):
        tick(done, 2)
    assert told == ["evaluating: 0% done", "evaluating: 50% done, 0:02:20 left", "scoring"]
