import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.faults import Faults
from maskrcnn.data.formats import instances
from maskrcnn.data.formats.builder import Builder
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.health.check import UNNAMED, examine
from maskrcnn.masks import bitmap_from_rings
from tests.data.formats.raster_data import add_mask, draw_data, draw_ids, pixels_of, put_image, put_mask, read_all


def only(root):
    """(data, faults) of the only split below a folder."""
    (source,) = instances.find(Folder(root))
    faults = Faults()
    return instances.read(source, faults), faults


def kinds(faults):
    return [fault.kind.name for fault in faults]


def test_a_mask_beside_each_image_gives_its_objects_pixel_by_pixel(tmp_path):
    put_image(tmp_path / "images/a.jpg")
    put_mask(tmp_path / "masks/a.png", draw_ids())
    data, faults = only(tmp_path)
    assert kinds(faults) == []
    assert (data.file_names, data.sizes.tolist(), data.category_names) == (["a.jpg"], [[20, 30]], ("object",))
    masks = [bitmap_from_rings(data.outline(index), (0, 0, 20, 30)) for index in range(3)]
    assert [np.array_equal(mask, draw_ids() == id) for id, mask in enumerate(masks, 1)] == [True] * 3
    assert data.boxes.tolist() == [[5, 4, 15, 12], [9, 7, 11, 8], [0, 0, 30, 20]]


LAYOUTS = {
    "Cellpose": ("im.tif", "im_cp_masks.png"),
    "Cellpose's own images": ("000_img.png", "000_masks.png"),
    "two folders of Cellpose's": ("images/000_img.tif", "masks/000_masks.tif"),
    "Cellpose tif": ("im.tif", "im_masks.tif"),
    "masks folder inside": ("im.png", "masks/im.png"),
    "beside a JPEG": ("im.jpg", "im.png"),
    "StarDist": ("images/im.tif", "masks/im.tif"),
    "suffix and folder": ("images/im.png", "labels/im_label.png"),
    "Carvana": ("train/im.jpg", "train_masks/im_mask.gif"),
    "DAVIS": ("JPEGImages/480p/bear/im.jpg", "Annotations/480p/bear/im.png"),
    "subfolders": ("images/x/im.png", "masks/x/im.png"),
    "upper case": ("Images/IM.PNG", "Masks/im.png"),
}


@pytest.mark.parametrize("masks", ["_masks", "_cp_masks"])
def test_masks_in_use_beside_their_images_are_not_told_as_unused(tmp_path, masks):
    for name in ("1", "2"):
        put_image(tmp_path / f"{name}.png", seed=int(name))
        put_mask(tmp_path / f"{name}{masks}.png", draw_ids())
        put_image(tmp_path / f"{name}_flows.png")
    put_image(tmp_path / "bare.png", seed=3)
    data, faults = only(tmp_path)
    assert [(fault.kind.name, fault.examples) for fault in faults] == [("mask-missing", ["bare.png"])]
    found = examine({"train": data}, {"train": faults}, {}).findings["train"]
    told = {one.kind: one.examples for one in found}
    assert told[UNNAMED] == ["1_flows.png", "2_flows.png"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_found(name, tmp_path):
    image, mask = LAYOUTS[name]
    put_image(tmp_path / image)
    put_mask(tmp_path / mask, draw_ids())
    data, faults = only(tmp_path)
    assert ([data.images / one for one in data.file_names], len(data.labels)) == ([tmp_path / image], 3)
    assert kinds(faults) == []


@pytest.mark.parametrize("layout", ["{part}/images/a.png {part}/masks/a.png", "images/{part}/a.png masks/{part}/a.png"])
def test_splits_are_found(layout, tmp_path):
    for part in ("train", "val"):
        image, mask = layout.format(part=part).split()
        put_image(tmp_path / image)
        put_mask(tmp_path / mask, draw_ids())
    assert [source.part for source in instances.find(Folder(tmp_path))] == ["train", "val"]


def test_numbers_of_any_width_are_read(tmp_path):
    for name, dtype, factor in (
        ("8.png", np.uint8, 80),
        ("16.png", np.uint16, 20_000),
        ("32.tif", np.int32, 700_000_000),
    ):
        put_image(tmp_path / f"images/{name[:2]}.jpg")
        put_mask(tmp_path / f"masks/{name}", draw_ids().astype(np.int64) * factor, dtype)
    put_mask(tmp_path / "masks/f.tif", draw_ids(), np.float32)
    put_image(tmp_path / "images/f.jpg")
    put_image(tmp_path / "images/8.jpg")
    data, faults = only(tmp_path)
    assert (len(data.file_names), len(data.labels)) == (4, 12)
    assert kinds(faults) == ["mask-missing"]


def test_numbers_coded_in_colours_are_told_apart(tmp_path):
    ids = draw_ids()
    colours = np.array([[0, 0, 0], [44, 1, 0], [44, 0, 1], [0, 44, 44]], np.uint8)[ids]
    put_image(tmp_path / "images/a.jpg")
    put_mask(tmp_path / "masks/a.png", colours)
    put_image(tmp_path / "images/b.jpg")
    put_mask(tmp_path / "masks/b.png", np.repeat(ids[..., None], 3, axis=2))
    data, _ = only(tmp_path)
    masks = pixels_of(data)
    assert masks["a.jpg"] == masks["b.jpg"]
    assert len(masks["a.jpg"]) == 3


def test_indices_of_a_palette_are_the_numbers(tmp_path):
    put_image(tmp_path / "images/a.jpg")
    (tmp_path / "masks").mkdir()
    image = Image.fromarray(draw_ids(), "P")
    image.putpalette([7] * 768)
    image.save(tmp_path / "masks/a.png")
    assert len(only(tmp_path)[0].labels) == 3


def test_folders_of_masks_name_classes(tmp_path):
    put_image(tmp_path / "images/a.png")
    put_mask(tmp_path / "masks/cat/a.png", draw_ids() == 1)
    put_mask(tmp_path / "masks/dog/a.png", draw_ids() * (draw_ids() > 1))
    data, _ = only(tmp_path)
    assert [data.category_names[label - 1] for label in data.labels] == ["cat", "dog", "dog"]


def test_masks_of_one_value_are_cut_into_parts_and_that_is_said(tmp_path):
    put_image(tmp_path / "images/a.png")
    put_mask(tmp_path / "masks/a.png", (draw_ids() > 0) * 255)
    data, faults = only(tmp_path)
    assert len(data.labels) == 4  # one inside the hole of another, and two at the border
    assert kinds(faults) == ["mask-one-value"]


def test_one_object_in_each_image_stays_whole(tmp_path):
    for name, ids in (("a", draw_ids() == 1), ("b", draw_ids() == 3), ("c", draw_ids() == 2)):
        put_image(tmp_path / f"images/{name}.png")
        put_mask(tmp_path / f"masks/{name}.png", ids)
    data, faults = only(tmp_path)
    assert (len(data.labels), kinds(faults)) == (3, [])


def test_masks_of_classes_are_refused_with_both_meanings(tmp_path):
    ids = np.zeros((20, 30), np.uint8)
    ids[2:4, 2:28:6] = 1
    ids[10:12, 2:28:6] = 2
    for name in ("a", "b"):
        put_image(tmp_path / f"images/{name}.png")
        put_mask(tmp_path / f"masks/{name}.png", ids)
    _, faults = only(tmp_path)
    with pytest.raises(ValueError, match="as classes do in semantic segmentation, or as objects in many pieces"):
        faults.refuse(tmp_path)


def test_masks_that_cannot_be_read_or_have_another_size_are_named(tmp_path):
    for name in ("a", "b", "c", "d", "e", "f"):
        put_image(tmp_path / f"images/{name}.png")
    put_mask(tmp_path / "masks/a.png", draw_ids())
    put_mask(tmp_path / "masks/b.png", np.ones((30, 20)))
    (tmp_path / "masks/c.png").write_bytes(b"")
    put_mask(tmp_path / "masks/d.jpg", draw_ids())
    put_mask(tmp_path / "masks/e.tif", draw_ids() * 0.5, np.float32)
    put_mask(tmp_path / "masks/x.png", draw_ids())
    pages = [Image.fromarray(draw_ids()) for _ in range(2)]
    pages[0].save(tmp_path / "masks/f.tif", save_all=True, append_images=pages[1:])
    data, faults = only(tmp_path)
    assert data.file_names == ["a.png"]
    counts = {fault.kind.name: (fault.count, fault.sentence) for fault in faults}
    assert {name: count for name, (count, _) in counts.items()} == {
        "mask-unreadable": 4,
        "mask-size": 1,
        "mask-without-image": 1,
    }
    assert "has (height, width) (30, 20), its image b.png (20, 30)" in counts["mask-size"][1]


@pytest.mark.parametrize("name", ["c.png", "d.jpg", "e.tif", "f.tif"])
def test_each_mask_that_is_none_has_its_sentence(name, tmp_path):
    put_image(tmp_path / f"images/{name[0]}.bmp")
    path = tmp_path / "masks" / name
    put_mask(path, draw_ids() * (0.5 if name[0] == "e" else 1), np.float32 if name[0] == "e" else np.uint8)
    if name[0] == "c":
        path.write_bytes(b"")
    if name[0] == "f":
        Image.fromarray(draw_ids()).save(path, save_all=True, append_images=[Image.fromarray(draw_ids())])
    (source,) = instances.find(Folder(tmp_path))
    words = {"c": "is empty", "d": "changes pixels", "e": "no whole numbers", "f": "2 pages"}[name[0]]
    with pytest.raises(ValueError, match=words):
        instances.read(source, Faults())


def test_a_mask_drawn_on_the_stored_pixels_of_a_turned_photo_fits(tmp_path):
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "images/a.jpg", exif=exif)
    put_mask(tmp_path / "masks/a.png", draw_ids())
    data, faults = only(tmp_path)
    assert (data.sizes.tolist(), kinds(faults)) == ([[20, 30]], [])


TRAPS = {
    "images alone": ["images/a.png", "images/b.png"],
    "photos and their thumbnails": ["images/a.jpg", "thumbs/a.jpg"],
    "overlays in a folder of masks": ["images/a.png", "masks/a.png"],
    "a JPEG and its noisy copy": ["a.jpg", "a.png"],
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_holds_no_masks_is_not_found(trap, tmp_path):
    for seed, name in enumerate(TRAPS[trap]):
        put_image(tmp_path / name, seed=seed)
    assert instances.find(Folder(tmp_path)) == []


@pytest.mark.parametrize("other", ["SegmentationObject", "SegmentationClass", "gtFine/train", "panoptic_train2017"])
def test_masks_of_other_formats_are_left_to_them(other, tmp_path):
    put_image(tmp_path / "JPEGImages/a.jpg")
    put_mask(tmp_path / other / "a.png", draw_ids())
    assert instances.find(Folder(tmp_path)) == []


@pytest.mark.parametrize("classes", [("nucleus",), ("cat", "dog"), ("train", "mask"), ("a/b", "1"), ("class 2", "-x")])
def test_what_is_written_is_read_again(classes, tmp_path):
    data = draw_data(tmp_path / "from", classes)
    assert instances.write({"train": data, "val": data}, tmp_path / "to") == []
    back = read_all(instances, tmp_path / "to")
    assert list(back) == ["train", "val"]
    assert [one.category_names for one in back.values()] == [classes, classes]
    assert [pixels_of(one) for one in back.values()] == [pixels_of(data)] * 2


def test_a_split_without_a_name_lies_in_the_folder_itself(tmp_path):
    data = draw_data(tmp_path / "from")
    instances.write({"": data}, tmp_path / "to")
    found = sorted(path.name for path in (tmp_path / "to").iterdir())
    assert found == ["classes.txt", "images", instances.MARK, "masks"]
    assert pixels_of(read_all(instances, tmp_path / "to")[""]) == pixels_of(data)


def test_a_mask_that_cannot_be_opened_is_named(tmp_path):
    put_image(tmp_path / "images/a.png")
    put_image(tmp_path / "images/b.png")
    put_mask(tmp_path / "masks/a.png", draw_ids())
    (tmp_path / "masks/b.png").symlink_to("b.png")
    data, faults = only(tmp_path)
    assert data.file_names == ["a.png"]
    told = {fault.kind.name: fault.sentence for fault in faults}
    assert f"{tmp_path / 'masks/b.png'} cannot be opened" in told["mask-unreadable"]


@pytest.mark.parametrize("classes", [("cat",), ("cat", "dog")])
def test_objects_of_several_parts_come_back_as_they_were_written(classes, tmp_path):
    builder = Builder(tmp_path / "labels.json", tmp_path / "images", Faults(), classes)
    for number in range(3):
        put_image(tmp_path / f"images/{number}.png", seed=number)
        image = builder.add_image(f"{number}.png", (20, 30))
        for x in range(2):
            mask = np.zeros((20, 30), bool)
            mask[2:6, 4 + 9 * x : 8 + 9 * x] = mask[12:16, 4 + 9 * x : 8 + 9 * x] = True
            add_mask(builder, image, classes[-1], mask)
    data = builder.dataset()
    instances.write({"": data}, tmp_path / "written")
    found, faults = only(tmp_path / "written")
    assert kinds(faults) == []
    assert pixels_of(found) == pixels_of(data)
    (tmp_path / "written" / instances.MARK).unlink()
    assert kinds(only(tmp_path / "written")[1]) == ["mask-semantic"]
