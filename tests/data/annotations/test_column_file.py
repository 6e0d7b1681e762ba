import numpy as np
import pytest

from maskrcnn.data.annotations import column_file

CONTENT = {
    "sizes": np.array([[40, 60], [50, 45], [30, 31]], np.int64),
    "crowd": np.array([True, False, True]),
    "nothing": np.zeros((0, 4), np.float32),
    "words": ("cat", "höhe"),
    "points": np.arange(10, dtype=np.float32).reshape(5, 2)[::2],
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.columns"
    with path.open("xb+") as stream:
        column_file.write(stream, CONTENT)
    return path


def read(path):
    with path.open("rb") as stream:
        return column_file.read(stream)


def test_arrays_and_words_come_back(path):
    found = read(path)
    assert found.keys() == CONTENT.keys()
    assert found["words"] == CONTENT["words"]
    for name in CONTENT.keys() - {"words"}:
        assert found[name].dtype == CONTENT[name].dtype
        assert np.array_equal(found[name], CONTENT[name])


def test_who_changes_an_array_changes_a_copy_of_its_own(path):
    before = path.read_bytes()
    first, second = read(path), read(path)
    first["sizes"][0] = 7
    assert second["sizes"][0].tolist() == [40, 60]
    assert path.read_bytes() == before


def test_a_file_that_was_removed_stays_readable_for_who_has_it(path):
    found = read(path)
    path.unlink()
    assert np.array_equal(found["points"], CONTENT["points"])


def test_a_file_that_is_cut_off_anywhere_is_refused(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="damaged or cut off"):
            read(path)


def test_a_file_with_any_byte_changed_is_refused(path):
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match="damaged or cut off"):
            read(path)
