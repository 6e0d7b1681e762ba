import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn.data.dataset import Flag
from maskrcnn.data.faults import Faults, Severity
from maskrcnn.data.formats import via
from maskrcnn.data.formats.source import Folder
from maskrcnn.data.formats.via_file import parse

POLYGON = {"name": "polygon", "all_points_x": [2.5, 10, 10], "all_points_y": [1, 1, 4]}


def region(shape=POLYGON, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(regions, filename="a.png", **more):
    return {"filename": filename, "size": -1, "regions": regions, "file_attributes": {}, **more}


def project(*entries, **attributes):
    """A project as VIA 2 saves it."""
    return {
        "_via_settings": {"ui": {}, "core": {"buffer_size": 18, "default_filepath": ""}, "project": {"name": "pets"}},
        "_via_img_metadata": {f"{one['filename']}-1": one for one in entries},
        "_via_attributes": {"region": attributes, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": [],
    }


def put(root: Path, value, *images: str, name: str = "via.json") -> Folder:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(value if isinstance(value, str) else json.dumps(value))
    for one in images:
        (root / one).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(root / one)
    return Folder(root)


def read_one(folder: Folder):
    """The one split in a folder, and what was met."""
    [source] = via.find(folder)
    faults = Faults()
    return via.read(source, faults), {fault.kind.name: fault for fault in faults}


def csv_of(shape: str) -> str:
    head = "#filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    quoted = shape.replace('"', '""')
    return head + f'a.png,-1,"{{}}",1,0,"{quoted}","{{""class"":""cat""}}"\nb.png,-1,"{{}}",0,0,"{{}}","{{}}"\n'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("via.json", project(entry([region(**{"class": "cat"})]), entry([], "b.png"))),
        ("via.json", {"a.png-1": entry([region(**{"class": "cat"})]), "b.png-1": entry([], "b.png")}),
        (
            "via.json",
            {"a": entry({"0": region(**{"class": "cat"})}, fileref="", base64_img_data=""), "b": entry({}, "b.png")},
        ),
        ("via.csv", csv_of(json.dumps(POLYGON))),
    ],
)
def test_projects_and_exports_of_both_versions_are_read(tmp_path, name, value):
    data, met = read_one(put(tmp_path, value, "a.png", "b.png", name=name))
    assert (list(data.file_names), data.sizes.tolist()) == (["a.png", "b.png"], [[10, 20], [10, 20]])
    assert data.category_names == ("cat",)
    assert data.outline(0).points.tolist() == [[2.5, 1], [10, 1], [10, 4]]
    assert data.first_object.tolist() == [0, 1, 1]
    assert met == {}


@pytest.mark.parametrize(
    ("shape", "box", "flag"),
    [
        ({"name": "rect", "x": 2, "y": 1, "width": 8, "height": 3}, [2, 1, 8, 3], Flag.NO_OUTLINE),
        ({"name": "circle", "cx": 6, "cy": 5, "r": 3}, [3, 2, 6, 6], Flag(0)),
        ({"name": "ellipse", "cx": 8, "cy": 5, "rx": 6, "ry": 2}, [2, 3, 12, 4], Flag(0)),
        ({"name": "ellipse", "cx": 8, "cy": 5, "rx": 4, "ry": 2, "theta": 1.5707963}, [6, 1, 4, 8], Flag(0)),
    ],
)
def test_every_shape_that_covers_something_is_read(tmp_path, shape, box, flag):
    data, met = read_one(put(tmp_path, project(entry([region(shape, name="cat")])), "a.png"))
    np.testing.assert_allclose(data.stated_boxes[0], box, rtol=0, atol=0.05)
    assert data.flags.tolist() == [flag]
    assert met == {}


@pytest.mark.parametrize("name", ["point", "polyline"])
def test_shapes_that_cover_nothing_are_left_out_with_a_note(tmp_path, name):
    data, met = read_one(put(tmp_path, project(entry([region(name="cat"), region({"name": name})])), "a.png"))
    assert len(data.labels) == 1
    assert met["via-no-area"].kind.severity is Severity.NOTE


@pytest.mark.parametrize(
    ("attributes", "names", "kinds"),
    [
        ([{"class": "cat"}, {"class": "dog", "id": "7"}], ("cat", "dog"), set()),
        ([{"id": "1", "label": "cat"}, {"id": "2", "label": "dog"}], ("cat", "dog"), set()),
        ([{"Type": "cat"}, {"Type": "dog"}], ("cat", "dog"), set()),
        ([{"pet": "cat", "note": ""}, {"pet": "dog", "note": "big"}], ("cat", "dog"), {"via-class"}),
        ([{"class": {"cat": True, "dog": False}}, {"class": {"dog": True}}], ("cat", "dog"), set()),
        ([{}, {}], ("object",), {"via-one-class"}),
        ([{"class": 3}, {"class": 4}], ("3", "4"), set()),
    ],
)
def test_the_class_is_found_under_any_attribute(tmp_path, attributes, names, kinds):
    data, met = read_one(put(tmp_path, project(entry([region(**one) for one in attributes])), "a.png"))
    assert data.category_names == names
    assert set(met) == kinds


def test_a_menu_gives_the_order_of_classes_and_the_names_of_numbers(tmp_path):
    menu = {"type": "dropdown", "options": {"dog": "", "cat": ""}}
    data, _ = read_one(put(tmp_path / "1", project(entry([region(**{"class": "cat"})]), **{"class": menu}), "a.png"))
    assert data.category_names == ("dog", "cat")
    menu = {"type": "dropdown", "options": {"1": "dog", "2": "cat"}}
    data, _ = read_one(put(tmp_path / "2", project(entry([region(**{"class": "2"})]), **{"class": menu}), "a.png"))
    assert (data.category_names, data.labels.tolist()) == (("dog", "cat"), [2])


@pytest.mark.parametrize(
    "broken",
    [
        region({"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]}, **{"class": "cat"}),
        region({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, **{"class": "cat"}),
        region({"name": "polygon", "all_points_x": [1, 2, None], "all_points_y": [1, 2, 3]}, **{"class": "cat"}),
        region({"name": "rect", "x": 1}, **{"class": "cat"}),
        region({"name": "hexagon"}, **{"class": "cat"}),
        region({}, **{"class": "cat"}),
        region({"name": {}}, **{"class": "cat"}),
        region(),
        region(**{"class": {"cat": True, "dog": True}}),
    ],
)
def test_a_region_that_cannot_be_read_is_refused_and_the_others_are_read(tmp_path, broken):
    whole = region(**{"class": "cat"})
    data, met = read_one(put(tmp_path, project(entry([whole, whole, broken])), "a.png"))
    assert len(data.labels) == 2
    assert met["via-region"].kind.severity is Severity.REFUSED
    assert "region 2 of a.png" in met["via-region"].sentence


@pytest.mark.parametrize("broken", [None, [], {"shape_attributes": []}, {**region(), "region_attributes": []}])
def test_what_is_no_region_costs_the_others_of_its_image_nothing(tmp_path, broken):
    regions = [region(**{"class": "cat"}), broken, region(**{"class": "dog"})]
    data, met = read_one(put(tmp_path, project(entry(regions)), "a.png"))
    assert [data.category_names[label - 1] for label in data.labels] == ["cat", "dog"]
    assert (met["via-region"].count, met["via-region"].examples) == (1, ["region 1 of a.png"])


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e400"])
@pytest.mark.parametrize("version", [1, 2])
def test_a_number_that_is_not_finite_costs_its_region_alone(tmp_path, number, version):
    odd = region({"name": "rect", "x": "NUMBER", "y": 1, "width": 3, "height": 3}, **{"class": "cat"})
    one = entry([region(**{"class": "cat"}), odd])
    text = json.dumps(project(one) if version == 2 else {"a.png-1": one}).replace('"NUMBER"', number)
    data, met = read_one(put(tmp_path, text, "a.png"))
    assert (len(data.labels), met["via-region"].examples) == (1, ["region 1 of a.png"])


def test_a_row_of_a_table_that_is_no_json_costs_its_region_alone(tmp_path):
    text = csv_of(json.dumps(POLYGON)) + 'a.png,-1,"{}",2,1,"{""name"":","{}"\n'
    data, met = read_one(put(tmp_path, text, "a.png", "b.png", name="via.csv"))
    assert (len(data.labels), met["via-region"].examples) == (1, ["region 1 of a.png"])


def test_entries_that_are_no_images_are_refused_beside_images(tmp_path):
    value = project(entry([region(name="cat")]))
    value["_via_img_metadata"]["x"] = {"regions": 3}
    _, met = read_one(put(tmp_path, value, "a.png"))
    assert met["via-entry"].examples == ["x"]


@pytest.mark.parametrize(
    "value",
    [
        {"images": [], "annotations": [], "categories": []},
        {"shapes": [], "imagePath": "a.png"},
        {"a": {"file_attributes": 1}},
        "[" * 100_000,
        '{"region_attributes": ' + "[" * 100_000,
        "a,b,c\n1,2,3\n",
    ],
)
@pytest.mark.parametrize("name", ["via.json", "via.csv"])
def test_other_files_are_not_taken_for_via(tmp_path, value, name):
    assert via.find(put(tmp_path, value, "a.png", name=name)) == []


def test_a_project_and_its_export_in_one_folder_are_one(tmp_path):
    regions = [region(**{"class": "cat"})]
    put(tmp_path, {"a.png-1": entry(regions)}, "a.png", name="export.json")
    put(tmp_path, project(entry(regions)), name="project.json")
    [source] = via.find(Folder(tmp_path))
    assert source.labels.name == "project.json"


def test_folders_are_splits_by_their_names(tmp_path):
    put(tmp_path, project(entry([region(name="cat")])), "train/a.png", name="train/via.json")
    sources = via.find(put(tmp_path, project(entry([], "b.png")), "val/b.png", name="val/via.json"))
    assert {one.part: list(via.read(one, Faults()).file_names) for one in sources} == {
        "train": ["a.png"],
        "val": ["b.png"],
    }


def test_attributes_come_back(tmp_path):
    regions = [region(**{"class": "cat", "age": "3"}), region(**{"class": "cat", "iscrowd": "1"})]
    data, _ = read_one(put(tmp_path / "one", project(entry(regions)), "a.png"))
    assert list(data.attributes) == ['{"age": "3"}', ""]
    assert data.crowd.tolist() == [False, True]
    assert via.write({"": data}, tmp_path / "two") == []
    again, _ = read_one(Folder(tmp_path / "two"))
    assert list(again.attributes) == list(data.attributes)
    assert again.crowd.tolist() == [False, True]


def test_a_damaged_project_is_named(tmp_path):
    text = json.dumps(project(entry([region(**{"class": "cat"})])))
    [source] = via.find(put(tmp_path, text[:-40], "a.png"))
    with pytest.raises(ValueError, match=r"via\.json cannot be read"):
        via.read(source, Faults())


def test_a_table_whose_first_line_never_ends_is_refused():
    with pytest.raises(ValueError, match="field larger than field limit"):
        parse("region_attributes," + "x" * 200_000, is_csv=True)


def test_a_folder_of_a_file_for_each_image_is_not_opened_file_by_file(tmp_path, monkeypatch):
    for number in range(50):
        put(tmp_path, {"shapes": [], "imagePath": "a.png"}, name=f"{number}.json")
    opened = []
    monkeypatch.setattr(via, "_head", lambda path: opened.append(path) or b"")
    assert via.find(Folder(tmp_path)) == []
    assert len(opened) == 20
