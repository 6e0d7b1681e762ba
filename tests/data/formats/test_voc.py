import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import voc
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.formats.voc_classes import NAMES, colours
from tests.data.formats.raster_data import add_mask, draw_data, draw_ids, pixels_of, put_image, put_mask, read_all


def put_palette(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids.astype(np.uint8), "P")
    image.putpalette(colours(256).tobytes())
    image.save(path)


def put_voc(root, name="2007_000032", ids=None, classes=(0, 8, 12, 15)):
    """VOC 2012's folders. classes: number of each object's class."""
    ids = draw_ids() if ids is None else ids
    kinds = np.array([*classes, *[0] * (256 - len(classes))])
    kinds[255] = 255
    put_image(root / f"JPEGImages/{name}.jpg")
    put_palette(root / f"SegmentationObject/{name}.png", ids)
    put_palette(root / f"SegmentationClass/{name}.png", kinds[ids])


def put_list(root, part, *names, kind="Segmentation"):
    path = root / f"ImageSets/{kind}/{part}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


def only(root):
    """(source, data, faults) of the only split below a folder."""
    (source,) = voc.find(Folder(root))
    faults = Faults()
    return source, voc.read(source, faults), faults


def named(data):
    return [data.category_names[label - 1] for label in data.labels]


def test_numbers_are_objects_and_their_colours_classes(tmp_path):
    root = tmp_path / "VOCdevkit/VOC2012"
    ids = draw_ids()
    ids[13, 5:15] = 255
    put_voc(root, ids=ids)
    put_voc(root, "2007_000033")
    for part, name in (("train", "2007_000032"), ("val", "2007_000033"), ("trainval", "2007_000032")):
        put_list(root, part, name)
    data = read_all(voc, tmp_path)
    assert list(data) == ["train", "val"]
    assert (data["train"].file_names, named(data["train"])) == (["2007_000032.jpg"], ["cat", "dog", "person"])
    assert data["train"].category_names == NAMES[1:]
    expected = [(name, (draw_ids() == id).tobytes()) for id, name in enumerate(("cat", "dog", "person"), 1)]
    assert pixels_of(data["train"]) == {"2007_000032.jpg": sorted(expected)}


def test_colours_of_cvat_mean_what_its_label_map_says(tmp_path):
    put_image(tmp_path / "JPEGImages/a.png")
    ids = draw_ids()
    put_mask(tmp_path / "SegmentationObject/a.png", colours(256)[np.where(ids == 2, 255, ids)])
    map_ = np.array([[0, 0, 0], [250, 50, 83], [1, 2, 3], [7, 7, 7]])
    put_mask(tmp_path / "SegmentationClass/a.png", map_[ids])
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nred: hot:250,50,83::\nb:1,2,3::\nc:7,7,7:hand,foot:run\n"
    )
    put_list(tmp_path, "default", "a")
    source, data, faults = only(tmp_path)
    assert (source.part, list(faults)) == ("", [])
    assert (named(data), data.category_names) == (["red: hot", "c"], ("red: hot", "b", "c"))


def test_class_names_of_labelme_stand_in_the_order_of_numbers(tmp_path):
    put_voc(tmp_path, "a", classes=(0, 1, 2, 1))
    (tmp_path / "class_names.txt").write_text("_background_\nnut\nbolt\n")
    put_image(tmp_path / "SegmentationClassVisualization/a.jpg")
    source, data, _ = only(tmp_path)
    assert (named(data), source.images) == (["nut", "bolt", "nut"], tmp_path / "JPEGImages")


def test_a_class_that_no_file_names_is_said(tmp_path):
    put_voc(tmp_path, "a", classes=(0, 40, 1, 0))
    _, data, faults = only(tmp_path)
    assert named(data) == ["class 40", "aeroplane", "object"]
    assert [(fault.kind.name, fault.count) for fault in faults] == [("voc-unnamed-class", 2)]


def test_without_masks_of_classes_all_are_objects(tmp_path):
    put_voc(tmp_path, "a")
    (tmp_path / "SegmentationClass/a.png").unlink()
    _, data, faults = only(tmp_path)
    assert named(data) == ["object"] * 3
    assert [fault.kind.name for fault in faults] == ["voc-no-class-mask"]


def test_masks_of_classes_alone_are_refused(tmp_path):
    put_image(tmp_path / "JPEGImages/a.jpg")
    put_palette(tmp_path / "SegmentationClass/a.png", draw_ids())
    (source,) = voc.find(Folder(tmp_path))
    with pytest.raises(ValueError, match=r"tells classes of pixels \(semantic segmentation\), not objects"):
        voc.read(source, Faults())


def test_an_export_without_images_says_where_they_go(tmp_path):
    put_voc(tmp_path, "a")
    (tmp_path / "JPEGImages/a.jpg").unlink()
    (tmp_path / "JPEGImages").rmdir()
    (source,) = voc.find(Folder(tmp_path))
    with pytest.raises(FileNotFoundError, match="JPEGImages does not exist; put the images of"):
        voc.read(source, Faults())


def test_what_is_missing_or_does_not_fit_is_left_out_and_named(tmp_path):
    for name in "abcde":
        put_voc(tmp_path, name)
    (tmp_path / "JPEGImages/a.jpg").unlink()
    (tmp_path / "SegmentationObject/b.png").unlink()
    put_palette(tmp_path / "SegmentationObject/c.png", draw_ids((20, 31)))
    put_palette(tmp_path / "SegmentationClass/d.png", draw_ids((21, 30)))
    put_list(tmp_path, "train", *"abcde", "../../x")
    _, data, faults = only(tmp_path)
    assert (data.file_names, np.diff(data.first_object).tolist()) == (["b.jpg", "e.jpg"], [0, 3])
    assert {fault.kind.name: fault.count for fault in faults} == {
        "missing-image": 1,
        "voc-listed-without-mask": 1,
        "mask-size": 1,
        "mask-unreadable": 1,
    }


XML = """<annotation><filename>{name}</filename><size><width>30</width><height>20</height></size>
{objects}</annotation>"""
OBJECT = """<object><name>cat</name><pose>Left</pose><truncated>0</truncated><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox><part><name>head</name></part></object>"""


def put_xml(path, *boxes, name="a.jpg"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(XML.format(name=name, objects="".join(OBJECT.format(*box) for box in boxes)))


@pytest.mark.parametrize(
    ("box", "expected", "kinds"),
    [((1, 2, 10, 12), [0, 1, 10, 12], []), ((0, 2, 10, 12), [0, 2, 10, 12], ["voc-from-zero"])],
)
def test_boxes_are_read_where_there_are_no_masks(box, expected, kinds, tmp_path):
    put_image(tmp_path / "JPEGImages/a.jpg")
    put_xml(tmp_path / "Annotations/a.xml", box)
    put_list(tmp_path, "train", "a", kind="Main")
    put_list(tmp_path, "cat_train", "a 1", kind="Main")
    source, data, faults = only(tmp_path)
    assert (source.part, data.file_names, data.boxes.tolist()) == ("train", ["a.jpg"], [expected])
    assert data.attributes == ['{"pose": "Left", "truncated": "0"}']
    assert [fault.kind.name for fault in faults] == kinds


def test_xml_beside_images_and_in_folders_of_splits_is_found(tmp_path):
    for part in ("train", "valid"):
        put_image(tmp_path / part / "a_jpg.rf.12.jpg")
        put_xml(tmp_path / part / "a_jpg.rf.12.xml", (1, 1, 5, 5))
    data = read_all(voc, tmp_path)
    assert [(part, one.file_names) for part, one in data.items()] == [
        ("train", ["a_jpg.rf.12.jpg"]),
        ("val", ["a_jpg.rf.12.jpg"]),
    ]


def test_xml_that_is_broken_or_dangerous_is_named(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa">]><annotation><object><name>&a;</name></object></annotation>'
    for name, text in (("b", "<annotation><object>"), ("c", bomb)):
        put_image(tmp_path / f"{name}.jpg")
        (tmp_path / f"{name}.xml").write_text(text)
    put_image(tmp_path / "a.jpg")
    put_xml(tmp_path / "a.xml", (1, 1, 5, 5), (1, 1, "nan", 5), (1, 1, "1e300", 5), (1, 1, "", 5))
    (source,) = voc.find(Folder(tmp_path)) or [None]
    faults = Faults()
    data = voc.read(source, faults)
    assert (data.file_names, len(data.labels)) == (["a.jpg"], 1)
    assert {fault.kind.name: fault.count for fault in faults} == {"voc-xml": 2, "voc-no-box": 3}


def test_other_xml_is_nobodys(tmp_path):
    put_image(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text("<annotations><version>1.1</version></annotations>")
    (tmp_path / "pom.xml").write_text("<project/>")
    assert voc.find(Folder(tmp_path)) == []


@pytest.mark.parametrize(
    "classes", [("nucleus",), ("cat", "train: fast"), tuple(f"class-{number}" for number in range(300))]
)
def test_what_is_written_is_read_again(classes, tmp_path):
    data = draw_data(tmp_path / "from", classes)
    (told,) = voc.write({"train": data, "val": data}, tmp_path / "to")
    assert "another name" in told
    back = read_all(voc, tmp_path / "to")
    assert list(back) == ["train", "val"]
    assert {one.category_names for one in back.values()} == {classes}
    assert pixels_of(back["train"]) == pixels_of(data)
    assert list(pixels_of(back["val"]).values()) == list(pixels_of(data).values())
    assert list(back["val"].file_names) == ["val_a.png", "b/val_c.jpg", "val_d.png"]


def test_more_objects_than_a_byte_counts_leave_void_out(tmp_path):
    ids = np.arange(600).reshape(20, 30)
    put_image(tmp_path / "from/images/a.png")
    builder = voc.Builder(tmp_path / "x", tmp_path / "from/images", Faults(), ["cat"])
    builder.add_image("a.png", (20, 30))
    for id in range(300):
        add_mask(builder, 0, "cat", ids == id)
    data = builder.dataset()
    assert voc.write({"": data}, tmp_path / "to") == []
    assert pixels_of(read_all(voc, tmp_path / "to")[""]) == pixels_of(data)


def test_overlaps_and_crowds_are_told(tmp_path):
    put_image(tmp_path / "from/images/a.png")
    builder = voc.Builder(tmp_path / "x", tmp_path / "from/images", Faults(), ["cat"])
    builder.add_image("a.png", (20, 30))
    for rows, columns, crowd in (
        (slice(0, 9), slice(0, 9), False),
        (slice(2, 5), slice(7, 12), False),
        (slice(0, 20), slice(0, 30), True),
    ):
        mask = np.zeros((20, 30), bool)
        mask[rows, columns] = True
        add_mask(builder, 0, "cat", mask, crowd=crowd)
    assert voc.write({"": builder.dataset()}, tmp_path / "to") == [
        "1 object lies in part under a smaller one, which gets the pixels of both",
        "6 pixels of theirs are gone",
        "1 crowd region is written as void, which is neither object nor background",
    ]
    with Image.open(tmp_path / "to/SegmentationObject/a.png") as image:
        assert (image.mode, image.getpixel((29, 19)), image.getpixel((8, 3))) == ("P", 255, 2)
