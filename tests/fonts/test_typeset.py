"""Names in any script on drawn pictures: a font that has the letters, or a sentence."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from maskrcnn.draw import draw_instances
from maskrcnn.fonts import note_unreadable, typeset
from maskrcnn.fonts.typeset import split
from maskrcnn.sentences import Note

from .conftest import font


def set_in(text: str) -> list[tuple[str, str]]:
    return [(part, "Pillow" if face.path is None else face.path.stem) for part, face in split(text)]


def said(names) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        note_unreadable(names)
    assert all(issubclass(one.category, Note) for one in caught)
    return [str(one.message) for one in caught]


def test_latin_letters_stay_in_pillows_font_and_look_as_ever(machine):
    machine(every=font("catjg 0.97"))
    line = typeset("cat jg 0.97", 20)
    usual = ImageFont.load_default(20)
    left, _, right, _ = usual.getbbox("cat jg 0.97")
    assert (line.left, line.right, set_in("cat jg 0.97")) == (left, right, [("cat jg 0.97", "Pillow")])
    ours, theirs = Image.new("RGB", (140, 40)), Image.new("RGB", (140, 40))
    line.draw(ImageDraw.Draw(ours), 3, 5 + usual.getmetrics()[0], (255, 255, 255))
    ImageDraw.Draw(theirs).text((3, 5), "cat jg 0.97", font=usual, fill=(255, 255, 255))
    assert ours.tobytes() == theirs.tobytes()


def test_a_name_is_drawn_in_the_font_that_has_it(machine):
    machine(Han=font("细胞核"), Cyrillic=font("Ячейка"))
    assert set_in("细胞核 0.97") == [("细胞核", "Han"), (" 0.97", "Pillow")]
    assert set_in("big Ячейка") == [("big ", "Pillow"), ("Ячейка", "Cyrillic")]
    line = typeset("细胞核", 20)
    assert (line.right, len(line.parts)) == (60, 1)  # three glyphs as wide as the font is high
    squares = draw_instances(np.zeros((480, 640, 3), np.uint8), np.array([[9, 99, 90, 199.0]]), None, ["细胞核"])
    letters = draw_instances(np.zeros((480, 640, 3), np.uint8), np.array([[9, 99, 90, 199.0]]), None, ["cat"])
    assert squares.tobytes() != letters.tobytes()
    assert said(["细胞核", "Ячейка", "cat"]) == []


def test_whole_words_and_what_is_between_them_share_a_font(machine):
    machine(A=font("板"), B=font("PCB板top面"))
    assert set_in("my PCB板 top面 x") == [("my ", "Pillow"), ("PCB板 top面", "B"), (" x", "Pillow")]
    machine(A=font("板"), B=font("面"))
    assert set_in("PCB板top面") == [("PCB", "Pillow"), ("板", "A"), ("top", "Pillow"), ("面", "B")]


def test_plain_fonts_go_before_bold_ones(machine):
    machine(**{"A-BoldItalic": font("细"), "B-Bold": font("细"), "C-Sans": font("细"), "D": font("细")})
    assert set_in("细") == [("细", "C-Sans")]


def test_an_accent_by_itself_is_joined_to_its_letter(machine):
    machine(A=font("cafeé"))
    assert set_in("cafe\N{COMBINING ACUTE ACCENT}") == [("café", "A")]


def test_line_breaks_and_halves_of_letters_can_be_drawn(machine):
    machine()
    assert [part for part, _ in split("a\nb\ud800")] == ["a b\N{REPLACEMENT CHARACTER}"]
    typeset("a\nb\ud800", 20)
    assert typeset("", 20).right == 0


def test_a_machine_without_the_letters_says_so_once(machine):
    machine(Cyrillic=font("Ячейка"))
    [sentence] = said(["细胞核", "cat", "हिन्दी", "细胞核", "Ячейка"])
    assert sentence.startswith(
        "no font on this machine has the letters of 2 names (细胞核, हिन्दी), in whose place squa"
    )
    assert "MASKRCNN_FONT" in sentence
    assert said(["细胞核", "木"]) == []


def test_a_machine_without_any_font_says_so_and_draws(machine):
    machine()
    with pytest.warns(Note, match=r"the letters of 1 name \(Ячейка\)"):
        draw_instances(np.zeros((480, 640, 3), np.uint8), np.array([[9, 99, 90, 199.0]]), None, ["Ячейка"])


def test_the_font_of_a_setting_comes_first_and_others_fill_its_gaps(machine, monkeypatch):
    folder = machine(Mine=font("cat细"), Han=font("细胞核"))
    monkeypatch.setenv("MASKRCNN_FONT", str(folder / "Mine.ttf"))
    assert set_in("cat") == [("cat", "Mine")]
    assert set_in("cat 细核") == [("cat ", "Mine"), ("细核", "Han")]
    assert set_in("cat x") == [("cat ", "Mine"), ("x", "Pillow")]
    assert said(["细核 cat dog"]) == []


@pytest.mark.parametrize("name", ["absent.ttf", "notes.txt", "folder"])
def test_a_setting_that_names_no_font_is_refused(machine, monkeypatch, tmp_path, name):
    machine()
    (tmp_path / "notes.txt").write_text("no font")
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("MASKRCNN_FONT", str(tmp_path / name))
    with pytest.raises(ValueError, match=f"MASKRCNN_FONT: expected a font file .* received '.*{name}'"):
        note_unreadable(["cat"])


def test_a_font_that_freetype_refuses_is_passed_over(machine):
    machine(A=font("细", drop=b"head"), B=font("细"))
    assert set_in("细") == [("细", "B")]


def test_letters_that_raqm_would_join_are_told_of_without_it(machine, monkeypatch):
    machine(A=font("أشجاردحكनमस细"))
    names = ["أشجار", "नमस\N{DEVANAGARI SIGN VIRAMA}", "细", "cat"]
    monkeypatch.setattr(features, "check", lambda name: True)
    assert said(names) == []
    monkeypatch.setattr(features, "check", lambda name: False)
    [sentence] = said(names)
    assert sentence.startswith("the letters of 2 names (")
    assert "drawn one by one from left to right" in sentence
    assert said(names) == []


def test_fonts_are_looked_for_where_each_system_keeps_them(monkeypatch, tmp_path):
    from maskrcnn.fonts import find

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_DIRS", "/opt/share:/usr/share")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for system, folder in [("linux", "/opt/share/fonts"), ("linux", f"{tmp_path}/.local/share/fonts")]:
        monkeypatch.setattr("sys.platform", system)
        assert folder in map(str, find.font_folders())
    monkeypatch.setattr("sys.platform", "darwin")
    assert "/System/Library/Fonts" in map(str, find.font_folders())
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("WINDIR", "D:/Windows")
    assert "D:/Windows/Fonts" in [folder.as_posix() for folder in find.font_folders()]
