from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import cvat
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.formats.xml_stream import xml_text
from maskrcnn.masks import bitmap_from_rings

META = """<meta><task><id>3</id><name>pets</name><size>2</size><mode>annotation</mode><labels>
<label><name>dog</name><color>#ff0000</color><type>any</type><attributes></attributes></label>
<label><name>cat</name><color>#00ff00</color><type>any</type><attributes></attributes></label>
</labels></task><dumped>2026-11-30 12:00:00+00:00</dumped></meta>"""
POLYGON = (
    '<polygon label="cat" source="manual" occluded="0" points="2.50,1.00;10.00,1.00;10.00,4.00" z_order="0"></polygon>'
)


def image(*shapes: str, name: str = "a.png", **more: str) -> str:
    fields = {"id": "0", "name": name, **more, "width": "20", "height": "10"}
    told = " ".join(f'{key}="{value}"' for key, value in fields.items() if value)
    return f"<image {told}>{''.join(shapes)}</image>"


def document(*images: str, meta: str = META) -> str:
    """A file as CVAT exports it."""
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n'
    return text + "\n".join(images) + "\n</annotations>\n"


def put(root: Path, text: str | bytes, *images: str, name: str = "annotations.xml") -> Folder:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    for one in images:
        (root / one).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(root / one)
    return Folder(root)


def read_one(folder: Folder):
    """The one split in a folder, and what was met."""
    [source] = cvat.find(folder)
    faults = Faults()
    return cvat.read(source, faults), {fault.kind.name: fault for fault in faults}


@pytest.mark.parametrize("where", ["images/a.png", "a.png"])
def test_an_export_is_read(tmp_path, where):
    data, met = read_one(put(tmp_path, document(image(POLYGON), image(name="b.png")), where, where.replace("a.", "b.")))
    assert data.images / data.file_names[0] == tmp_path / where
    assert (list(data.file_names), data.sizes.tolist()) == (["a.png", "b.png"], [[10, 20], [10, 20]])
    assert data.category_names == ("dog", "cat")
    assert data.labels.tolist() == [2]
    assert data.outline(0).points.tolist() == [[2.5, 1], [10, 1], [10, 4]]
    assert data.attributes is None
    assert met == {}


@pytest.mark.parametrize(
    ("shape", "box", "flag"),
    [
        ('<box label="cat" xtl="2.0" ytl="1.0" xbr="10.0" ybr="4.0" z_order="0"/>', [2, 1, 8, 3], Flag.NO_OUTLINE),
        ('<box label="cat" xtl="2" ytl="4" xbr="8" ybr="6" rotation="90.0"/>', [4, 2, 2, 6], Flag(0)),
        ('<ellipse label="cat" cx="8" cy="5" rx="6" ry="2" z_order="0"/>', [2, 3, 12, 4], Flag(0)),
        ('<ellipse label="cat" cx="8" cy="5" rx="4" ry="2" rotation="90"/>', [6, 1, 4, 8], Flag(0)),
    ],
)
def test_boxes_and_ellipses_are_read_with_their_rotation(tmp_path, shape, box, flag):
    data, met = read_one(put(tmp_path, document(image(shape)), "a.png"))
    np.testing.assert_allclose(data.stated_boxes[0], box, rtol=0, atol=0.05)
    assert data.flags.tolist() == [flag]
    assert met == {}


def test_a_box_turns_clockwise_on_the_screen(tmp_path):
    shape = '<box label="cat" xtl="4" ytl="4" xbr="16" ybr="6" rotation="30"/>'
    data, _ = read_one(put(tmp_path, document(image(shape)), "a.png"))
    left, right = (
        data.rings.points[data.rings.points[:, 0].argmin()],
        data.rings.points[data.rings.points[:, 0].argmax()],
    )
    assert left[1] < right[1]  # the right end went down


def test_run_lengths_go_along_the_rows_of_the_masks_box(tmp_path):
    shape = '<mask label="cat" occluded="0" rle="0, 4, 1, 1" left="4" top="2" width="3" height="2" z_order="0"/>'
    data, _ = read_one(put(tmp_path, document(image(shape)), "a.png"))
    whole = bitmap_from_rings(data.outline(0), (0, 0, 10, 20))
    assert np.argwhere(whole).tolist() == [[2, 4], [2, 5], [2, 6], [3, 4], [3, 6]]
    assert data.flags.tolist() == [Flag.RUN_LENGTHS]


@pytest.mark.parametrize("tag", ["polyline", "points", "cuboid", "skeleton", "tag"])
def test_what_covers_nothing_is_left_out_with_a_note(tmp_path, tag):
    data, met = read_one(put(tmp_path, document(image(POLYGON, f'<{tag} label="cat" points="1,2;3,4"/>')), "a.png"))
    assert len(data.labels) == 1
    assert met["cvat-no-area"].kind.severity is Severity.NOTE


def test_shapes_of_one_label_and_group_are_one_object(tmp_path):
    one, two = (POLYGON.replace("z_order", f'group_id="{number}" z_order') for number in (1, 2))
    box = '<box label="dog" xtl="2" ytl="1" xbr="10" ybr="4" group_id="1"/>'
    data, met = read_one(put(tmp_path, document(image(one, one.replace("10.00", "15.00"), two, box, POLYGON)), "a.png"))
    assert np.diff(data.first_ring).tolist() == [2, 1, 1, 1]
    assert met["cvat-group"].count == 1


def test_attributes_come_back(tmp_path):
    attributes = '<attribute name="age">3</attribute><attribute name="wild">true</attribute>'
    shape = POLYGON.replace("></polygon>", f">{attributes}</polygon>").replace('occluded="0"', 'occluded="1"')
    shape = shape.replace('z_order="0"', 'z_order="-2" group_id="4"')
    crowd = POLYGON.replace("></polygon>", '><attribute name="is_crowd">true</attribute></polygon>')
    data, _ = read_one(put(tmp_path / "one", document(image(shape, crowd)), "a.png"))
    assert list(data.attributes) == ['{"age": "3", "wild": true, "occluded": true, "group_id": 4, "z_order": -2}', ""]
    assert data.crowd.tolist() == [False, True]
    assert cvat.write({"": data}, tmp_path / "two") == []
    again, _ = read_one(Folder(tmp_path / "two"))
    assert list(again.attributes) == list(data.attributes)
    assert again.crowd.tolist() == [False, True]


def test_attributes_that_become_text_are_told(tmp_path):
    builder = Builder(tmp_path, put(tmp_path, document(), "a.png").root, Faults())
    image = builder.add_image("a.png", (20, 30))
    builder.add_object(image, "cat", None, box=(1, 2, 3, 4), attributes={"score": 0.5, "tags": [1], "wild": True})
    told = ["2 attributes become text, as all numbers and lists do in CVAT"]
    assert cvat.write({"": builder.dataset()}, tmp_path / "two") == told


def test_subsets_are_splits(tmp_path):
    text = document(image(POLYGON, subset="Train"), image(name="b.png", subset="Validation"))
    sources = cvat.find(put(tmp_path, text, "images/Train/a.png", "images/Validation/b.png"))
    assert {one.part: list(cvat.read(one, Faults()).file_names) for one in sources} == {
        "train": ["a.png"],
        "val": ["b.png"],
    }
    assert sources[0].images == tmp_path / "images/Train"


def test_a_subset_of_any_name_is_looked_for(tmp_path):
    [source] = cvat.find(put(tmp_path, document(image(POLYGON, subset="9" * 5000)), "images/a.png"))
    assert (source.part, source.images) == ("", tmp_path / "images")


def test_files_in_folders_of_splits_are_splits(tmp_path):
    folder = put(
        tmp_path, document(image(POLYGON, subset="default")), "train/images/a.png", name="train/annotations.xml"
    )
    [source] = cvat.find(folder)
    assert source.part == "train"
    assert list(cvat.read(source, Faults()).file_names) == ["a.png"]


def test_a_document_type_is_refused_before_anything_is_parsed(tmp_path):
    entities = "".join(f'<!ENTITY x{n} "{f"&x{n - 1};" * 10}">' for n in range(1, 10))
    text = document(image(POLYGON)).replace("<annotations>", f'<!DOCTYPE a [<!ENTITY x0 "x">{entities}]><annotations>')
    [source] = cvat.find(put(tmp_path, text, "a.png"))
    with pytest.raises(ValueError, match="document type"):
        cvat.read(source, Faults())


@pytest.mark.parametrize(
    "text",
    [
        "<annotation><object><name>cat</name></object></annotation>",
        document(),
        "<annotations><track id='0' label='cat'/></annotations>",
        "no XML <annotations> at all",
        b"\xff\xfe<\0",
    ],
)
def test_other_xml_is_not_taken_for_cvat(tmp_path, text):
    assert cvat.find(put(tmp_path, text, "a.png")) == []


def test_a_file_that_is_cut_off_is_read_up_to_there_and_refused(tmp_path):
    text = document(image(POLYGON), image(POLYGON, name="b.png"))
    data, met = read_one(put(tmp_path, text[: text.rindex("<polygon") + 20], "a.png", "b.png"))
    assert list(data.file_names) == ["a.png"]
    assert met["cvat-cut-off"].kind.severity is Severity.REFUSED


def test_elements_nested_without_end_are_refused(tmp_path):
    text = document(image("<box>" * 100_000))
    [source] = cvat.find(put(tmp_path, text, "a.png"))
    with pytest.raises(ValueError, match="within each other"):
        cvat.read(source, Faults())


@pytest.mark.parametrize(
    "shape",
    [
        '<polygon label="cat" points="1,2;3,4"/>',
        '<polygon label="cat" points="1,2;3,nan;5,6"/>',
        '<polygon label="cat" points="1,2;3;5,6"/>',
        '<polygon label="cat"/>',
        '<polygon points="1,1;5,1;5,5"/>',
        '<box label="cat" xtl="1" ytl="2" xbr="x" ybr="4"/>',
        '<box label="cat" xtl="1"/>',
        '<mask label="cat" rle="1, 2" left="0" top="0" width="3" height="2"/>',
        '<mask label="cat" rle="0, 99999999999999999999999" left="0" top="0" width="3" height="2"/>',
        '<mask label="cat" rle="6" left="0" top="0" width="3" height="2"/>',
        '<mask label="cat" rle="0, 6" left="0" top="0" width="30000000" height="20000000"/>',
        '<mask label="cat" rle="0, 6" left="0.5" top="0" width="3" height="2"/>',
        '<hexagon label="cat"/>',
    ],
)
def test_a_shape_that_cannot_be_read_is_refused_and_the_others_are_read(tmp_path, shape):
    data, met = read_one(put(tmp_path, document(image(shape, POLYGON)), "a.png"))
    assert len(data.labels) == 1
    assert met["cvat-shape"].count == 1
    assert "in a.png" in met["cvat-shape"].sentence


def test_tracks_of_a_video_are_refused_beside_images(tmp_path):
    track = '<track id="0" label="cat"><box frame="0" xtl="1" ytl="1" xbr="5" ybr="5"/></track>'
    _, met = read_one(put(tmp_path, document(image(POLYGON), track), "a.png"))
    assert met["cvat-tracks"].kind.severity is Severity.REFUSED


def test_a_missing_image_is_left_out_and_refused(tmp_path):
    data, met = read_one(put(tmp_path, document(image(POLYGON), image(POLYGON, name="b.png")), "a.png"))
    assert list(data.file_names) == ["a.png"]
    assert "b.png" in met["missing-image"].sentence


def test_sizes_that_are_missing_or_absurd_come_from_the_image(tmp_path):
    text = document(image(POLYGON)).replace('width="20" height="10"', 'width="150000000" height="1"')
    data, met = read_one(put(tmp_path, text, "a.png"))
    assert data.sizes.tolist() == [[10, 20]]
    assert met["size-from-picture"].count == 1


@pytest.mark.parametrize("encoding", ["utf-16", "windows-1251"])
def test_the_declared_encoding_is_used(tmp_path, encoding):
    word = "\u043a\u043e\u0442"
    text = document(image(POLYGON.replace("cat", word)), meta="").replace("utf-8", encoding)
    data, _ = read_one(put(tmp_path, text.encode(encoding), "a.png"))
    assert data.category_names == (word,)


def test_letters_of_an_unknown_kind_are_told(tmp_path):
    text = '<?xml version="1.0" encoding="iso-8859-99"?>' + document(image(POLYGON)).partition("?>")[2]
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(ValueError, match=r"annotations\.xml says .* unknown encoding: iso-8859-99; save it as UTF-8"):
        xml_text(tmp_path / "annotations.xml")
