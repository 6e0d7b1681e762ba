"""Addresses read like paths, and print without what opens them."""

from pathlib import Path

import pytest

from maskrcnn.storage.location import Location, at, is_remote, local, printable

SIGNED = "https://me:PASSWORD@host:8/a/b%20c.jpg?X-Amz-Signature=SIGNED&id=3&sig=SIGNED&Expires=9"


def test_an_address_reads_like_a_path():
    address = at("s3://bucket/data/val2017/")
    assert (str(address), address.name, str(address.parent)) == (
        "s3://bucket/data/val2017",
        "val2017",
        "s3://bucket/data",
    )
    picture = address / "sub/x y.JPG"
    assert (str(picture), picture.suffix, picture.stem) == ("s3://bucket/data/val2017/sub/x y.JPG", ".JPG", "x y")
    assert str(address / "../train2017/a.jpg") == "s3://bucket/data/train2017/a.jpg"
    assert (str(at("OBS://bucket")), at("gs://bucket").key, str(at("az://box/x").parent)) == (
        "obs://bucket",
        "",
        "az://box",
    )


@pytest.mark.parametrize("name", ["../../../x", "/x", "../../.."])
def test_no_name_leads_out_of_a_bucket(name):
    with pytest.raises(ValueError, match=r"expected the name of a file below it"):
        at("s3://bucket/data") / name


def test_a_web_address_keeps_its_secrets_to_itself():
    address = at(SIGNED)
    assert str(address) == f"{address}" == repr(address) == printable(SIGNED) == "https://host:8/a/b%20c.jpg"
    assert (address.name, address.choice, address.user) == ("b c.jpg", "id=3", "me:PASSWORD")
    assert address.address.startswith("https://host:8/a/b%20c.jpg?X-Amz-Signature=SIGNED&id=3")
    assert str(at("https://host/a") / "b c/ü.jpg") == "https://host/a/b%20c/%C3%BC.jpg"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://ID:SEC/RET/x@bucket/a@b.jpg", "s3://b.jpg"),  # rather too little than too much
        ("s3://ID:SEC/RET@bucket/x", "s3://bucket/x"),
        ("s3://ID:SECRET/x", "s3://***"),
        ("https://host:8080/a@b.jpg?sig=1", "https://host:8080/a@b.jpg"),
        ("https://me@host/x", "https://host/x"),
        ("https://me:1234@host/x", "https://host/x"),
        ("s3://bucket/a@b.jpg", "s3://bucket/a@b.jpg"),
    ],
)
def test_what_is_shown_of_an_address(text, shown):
    assert printable(text) == shown


def test_paths_stay_paths():
    assert at("a/b") == Path("a/b") == local("a/b")
    assert at("file:///tmp/a%20b") == at("file://localhost/tmp/a%20b") == Path("/tmp/a b")
    assert [at(text) for text in ("C:/x", "a:b/c", "a/b://c")] == [Path("C:/x"), Path("a:b/c"), Path("a/b://c")]
    assert local("~/x") == Path.home() / "x"


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        *((f"{scheme}://bucket/x", True) for scheme in ("s3", "obs", "gs", "az", "https", "S3")),
        *((text, False) for text in ("file:///x", "x", "mmdet://x", "s3:/x", "http://x/y", "C:\\x")),
        (Path("s3:/x"), False),
        (Location("s3", "bucket"), True),
    ],
)
def test_what_is_remote(text, remote):
    assert is_remote(text) == remote


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s3://", "expected s3://BUCKET/NAME"),
        ("https:///x", "expected https://HOST/NAME"),
        ("http://me:PASSWORD@host/x?sig=SIGNED", "http://host/x: expected https://"),
        ("s3://KEY:PASSWORD@bucket/x", "s3://bucket/x: expected a bucket's name after s3://.*docs/storage.md"),
        ("obs://bucket:80/x", "expected a bucket's name"),
        ("s3://bucket/../x", "leads out of the bucket"),
        ("file://host/x", "expected file:///PATH"),
        (
            "ftp://me:PASSWORD@host/x",
            r"^ftp://host/x: expected a path or an address that begins with one of s3://, obs",
        ),
        *((f"{scheme}://KEY:PASSWORD@bucket/x?sig=SIGNED", "expected a path") for scheme in ("s3a", "OSS", "x_y+z.1")),
        ("torchvision://maskrcnn_resnet50_fpn", "expected a path or an address"),
        ("s3:/KEY:PASSWORD@bucket/x", "^expected an address with two slashes, s3://bucket/x, received"),
        ("https:/host/x?sig=SIGNED", "two slashes, https://host/x, received"),
    ],
)
def test_what_is_not_understood_is_told_without_secrets(text, words):
    with pytest.raises(ValueError, match=words) as error:
        at(text)
    assert "PASSWORD" not in str(error.value)
    assert "SIGNED" not in str(error.value)


def test_a_place_for_paths_refuses_an_address():
    with pytest.raises(ValueError, match=r"expected a path on this machine, received https://host:8/a/b%20c\.jpg$"):
        local(SIGNED)
