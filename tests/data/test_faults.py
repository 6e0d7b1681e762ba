from maskrcnn.data.faults import Faults, Kind, Severity

NAMELESS = Kind("nameless", "files", Severity.REFUSED, "have no name")


def test_what_a_file_says_at_length_is_not_repeated_at_length():
    faults = Faults()
    faults.add(NAMELESS, "9" * 5000, f"an image {'9' * 5000} is missing; restore it")
    [fault] = faults
    assert len(fault.examples[0]) < 200
    assert len(fault.sentence) < 1300
    assert fault.sentence.endswith("9 is missing; restore it")


def test_what_is_told_has_one_line():
    faults = Faults()
    faults.add(NAMELESS, "a\nb", "a\nb is missing")
    [fault] = faults
    assert (fault.examples, fault.sentence) == (["a b"], "a b is missing")
