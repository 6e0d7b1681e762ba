"""Stores are opened with the usual credentials, asked as OBS wants to be asked, and tell failures in sentences."""

import builtins
import importlib
import time
import traceback
from typing import Any

import obstore
import pytest

from maskrcnn.storage import credentials
from maskrcnn.storage import store as module
from maskrcnn.storage.location import at
from maskrcnn.storage.read import read_bytes
from maskrcnn.storage.store import ask, children, endpoint, head, listing, open_store

from .object_store import DOMAIN, ID, SECRET, Store


def hosted(bucket="b", region="cn-north-4", domain="myhuaweicloud.com"):
    return f"https://{bucket}.obs.{region}.{domain}"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OBS_REGION": "cn-north-4"}, {"region": "cn-north-4", "aws_endpoint_url_s3": hosted()}),
        (
            {"OBS_ENDPOINT": "obs.cn-south-1.myhuaweicloud.com"},
            {"region": "cn-south-1", "aws_endpoint_url_s3": hosted(region="cn-south-1")},
        ),
        (
            {"S3_ENDPOINT": "https://obs.eu-west-101.myhuaweicloud.eu/"},
            {"region": "eu-west-101", "aws_endpoint_url_s3": hosted(region="eu-west-101", domain="myhuaweicloud.eu")},
        ),
        (
            {"S3_ENDPOINT": "obs.local:8080", "S3_USE_HTTPS": "0", "OBS_REGION": "here"},
            {"region": "here", "aws_endpoint_url_s3": "http://b.obs.local:8080"},
        ),
        ({"AWS_ENDPOINT_URL": hosted()}, {"region": "cn-north-4", "aws_endpoint_url_s3": hosted()}),
    ],
)
def test_obs_has_the_bucket_in_the_host(clean, variables, expected):
    for name, value in variables.items():
        clean.setenv(name, value)
    assert credentials.obs_config("b") == {**expected, "virtual_hosted_style_request": "true"}


def test_an_address_in_numbers_has_no_bucket_before_it(clean):
    clean.setenv("OBS_ENDPOINT", "http://10.1.2.3:80")
    assert credentials.obs_config("b") == {"aws_endpoint_url_s3": "http://10.1.2.3:80"}


def test_obs_without_an_endpoint_says_what_to_set(clean):
    with pytest.raises(ValueError, match=r"set OBS_ENDPOINT, such as \S+, or OBS_REGION"):
        open_store(at("obs://b/x"))


@pytest.mark.parametrize("names", credentials.OBS_KEYS)
def test_obs_keys_come_from_the_variables_of_its_tools(clean, names):
    clean.setenv("OBS_REGION", "r")
    clean.setenv("AWS_ACCESS_KEY_ID", "another")
    for name, value in zip(names, ("id", "secret", "token"), strict=True):
        clean.setenv(name, value)
    found = credentials.obs_config("b")
    assert [found[name] for name in credentials.KEYS] == ["id", "secret", "token"]


def test_a_key_is_not_mixed_with_the_token_of_another(clean):
    for name, value in (("OBS_REGION", "r"), ("OBS_ACCESS_KEY_ID", "id"), ("OBS_SECRET_ACCESS_KEY", "secret")):
        clean.setenv(name, value)
    clean.setenv("AWS_SESSION_TOKEN", "another's")
    assert "session_token" not in credentials.obs_config("b")


def test_files_of_aws_are_read(clean, tmp_path):
    folder = tmp_path / "home" / ".aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = one\naws_secret_access_key = two\n[work]\naws_access_key_id = three\n"
        "aws_secret_access_key = four\naws_session_token = five\n"
    )
    (folder / "config").write_text(
        "[profile work]\nregion = eu-central-1\nendpoint_url = https://minio.here:9000\n[default]\nregion=us-west-2\n"
    )
    assert credentials.s3_config("b") == {"access_key_id": "one", "secret_access_key": "two", "region": "us-west-2"}
    clean.setenv("AWS_PROFILE", "work")
    assert credentials.s3_config("b") == {
        "access_key_id": "three",
        "secret_access_key": "four",
        "session_token": "five",
        "region": "eu-central-1",
        "aws_endpoint_url_s3": "https://minio.here:9000",
    }
    clean.setenv("AWS_ACCESS_KEY_ID", "variables go before files")
    assert "access_key_id" not in credentials.s3_config("b")  # obstore reads them itself


def test_s3_keeps_its_path_style_unless_told_or_at_huawei(clean):
    clean.setenv("AWS_ENDPOINT_URL", "https://minio.here:9000")
    assert credentials.s3_config("b") == {"aws_endpoint_url_s3": "https://minio.here:9000"}
    clean.setenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "true")
    assert credentials.s3_config("b")["aws_endpoint_url_s3"] == "https://b.minio.here:9000"
    clean.delenv("AWS_VIRTUAL_HOSTED_STYLE_REQUEST")
    clean.setenv("AWS_ENDPOINT_URL", "https://obs.cn-north-4.myhuaweicloud.com")
    assert credentials.s3_config("b")["aws_endpoint_url_s3"] == hosted()


def test_secrets_show_in_no_representation(clean, store):
    config = credentials.obs_config("b")
    found = open_store(at("obs://bucket/x"))
    told = repr((config, found, found[0].config, credentials.s3_config("b")))
    assert ID not in told
    assert SECRET not in told


def test_what_is_written_is_read_with_the_bucket_in_the_host_and_right_signatures(store):
    name = "a/b c#%41 *~é+&=x.txt"
    opened, key = open_store(at(f"obs://bucket/{name}"))
    obstore.put(opened, key, b"content")
    assert store.things["bucket", name].content == b"content"
    assert read_bytes(f"obs://bucket/{name}") == b"content"
    assert head(at(f"obs://bucket/{name}")).size == 7
    assert [one.key for one in listing(at("obs://bucket"))] == [name]


def without_our_settings(endpoint: str, **more: Any) -> Any:
    """The bucket as obstore opens it by itself, with the server's key."""
    return obstore.store.S3Store(
        "bucket",
        endpoint=endpoint,
        access_key_id=ID,
        secret_access_key=SECRET,
        region="r",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
        **more,
    )


def test_an_address_with_the_bucket_in_the_path_is_refused_although_head_answers(store, clean):
    """So does OBS, which makes a test of the connection by HEAD worthless."""
    plain = without_our_settings(f"http://{DOMAIN}")
    assert obstore.head(plain, "x")["size"] == 0
    with pytest.raises(FileNotFoundError):
        obstore.put(plain, "x", b"content", use_multipart=False)


def test_optional_checksums_are_refused_and_not_sent(store):
    opened, key = open_store(at("obs://bucket/x"))
    obstore.put(opened, key, b"content")
    with_them = without_our_settings(
        f"http://bucket.{DOMAIN}", virtual_hosted_style_request=True, checksum_algorithm="SHA256"
    )
    with pytest.raises(obstore.exceptions.BaseError):
        obstore.put(with_them, key, b"content")


def test_a_token_is_sent(store, clean):
    store.token = "the token"
    store.put("x", b"content")
    with pytest.raises(PermissionError, match=r"refused it \(InvalidToken\).*OBS_SECURITY_TOKEN"):
        read_bytes("obs://bucket/x")
    clean.setenv("OBS_SECURITY_TOKEN", "the token")
    assert read_bytes("obs://bucket/x") == b"content"


def test_listings_have_no_markers_of_folders(store):
    for key in ("a/", "a/b/", "a/b/c.jpg", "a/d.jpg", "a/empty.txt", "ab/x.jpg"):
        store.put(key, b"" if key.endswith(("/", "empty.txt")) else b"1")
    assert [one.key for one in listing(at("obs://bucket/a"))] == ["b/c.jpg", "d.jpg", "empty.txt"]
    assert [one.key for one in listing(at("obs://bucket"))] == ["a/b/c.jpg", "a/d.jpg", "a/empty.txt", "ab/x.jpg"]
    assert [one.key for one in children(at("obs://bucket/a"))] == ["d.jpg", "empty.txt"]


def test_long_listings_come_in_pages(store):
    for number in range(2500):
        store.put(f"many/{number:04}", b"1")
    assert [one.key for one in listing(at("obs://bucket/many"))] == [f"{number:04}" for number in range(2500)]
    assert len(store.requests) == 3


@pytest.mark.parametrize("fault", ["cut", "drop", "error"])
def test_a_listing_that_breaks_off_is_gone_on_with(store, fault):
    for number in range(1200):
        store.put(f"many/{number:04}", b"1")
    store.fault = lambda request: fault if request.number in (1, 3, 5) else ""
    assert [one.key for one in listing(at("obs://bucket/many"))] == [f"{number:04}" for number in range(1200)]
    store.fault = lambda request: fault if request.number % 2 else ""
    store.put("few/x", b"1")
    assert [one.key for one in children(at("obs://bucket/few"))] == ["x"]


def test_a_server_that_fails_is_told_as_such_whatever_the_address_is(store, clean):
    clean.setenv("MASKRCNN_STORAGE_PATIENCE", "0.1")
    for number in range(1001):
        store.put(f"token/NoSuchBucket/{number:04}", b"1")
    store.fault = lambda request: "error" if "continuation-token" in request.query else ""
    with pytest.raises(ConnectionError, match="the server failed"):
        list(listing(at("obs://bucket/token/NoSuchBucket")))


def test_a_listing_that_always_breaks_off_says_how_long_that_was_tried(store, clean):
    clean.setenv("MASKRCNN_STORAGE_PATIENCE", "0.4")
    store.fault = lambda request: "cut"
    begin = time.monotonic()
    with pytest.raises(ConnectionError, match=r"the connection was lost, tried for ") as error:
        list(listing(at("obs://bucket/x")))
    tried = float(str(error.value).partition("tried for ")[2].partition(" s ")[0])
    assert 0.4 <= tried <= round(time.monotonic() - begin, 1)


def test_without_keys_a_proxy_that_answers_for_the_machine_is_not_believed(store, clean):
    clean.delenv("OBS_ACCESS_KEY_ID")
    store.put("x", b"content")
    for call in (head, lambda where: list(listing(where))):
        with pytest.raises(PermissionError, match="no credentials were found; set OBS_ACCESS_KEY_ID"):
            call(at("obs://bucket/x"))


@pytest.mark.parametrize("key", ["below/a//b.jpg", "below/../b.jpg", "below/./b.jpg"])
def test_a_key_that_cannot_be_read_is_named(store, key):
    store.put(key, b"1")
    with pytest.raises(
        ValueError, match=r"listing obs://bucket/below: the object with the key .* another key"
    ) as error:
        list(listing(at("obs://bucket/below")))
    assert repr(key) in str(error.value)


def test_a_server_that_is_not_reached_is_named(store, clean):
    clean.setenv("MASKRCNN_STORAGE_PATIENCE", "0.1")
    store.kill()
    with pytest.raises(ConnectionError, match=rf"look at the network and the endpoint http://bucket\.{DOMAIN}, then"):
        head(at("obs://bucket/x"))


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("error", ConnectionError, r"reading obs://bucket/x: the server failed \(InternalError\), tried for \d\.\d s"),
        ("drop", ConnectionError, r"the connection was lost.*look at the network.*what is complete is kept"),
        ("cut", ConnectionError, r"the connection was lost"),
    ],
)
def test_a_failure_is_told_after_the_patience_is_over(store, clean, fault, kind, words):
    clean.setenv("MASKRCNN_STORAGE_PATIENCE", "0.2")
    store.put("x", b"content")
    store.fault = lambda request: fault
    with pytest.raises(kind, match=words):
        read_bytes("obs://bucket/x")
    assert len(store.requests) > 1


@pytest.mark.parametrize("fault", ["error", "drop", "cut"])
def test_a_failure_that_passes_is_not_told(store, fault):
    store.put("x", b"content")
    store.fault = lambda request: fault if len(store.requests) < 4 else ""
    assert read_bytes("obs://bucket/x") == b"content"


def test_refusals_are_told_without_what_the_server_repeats(store, clean):
    clean.setenv("OBS_SECRET_ACCESS_KEY", "WRONG/PLANTED/WRONG")
    store.put("x", b"content")
    with pytest.raises(
        PermissionError, match=r"refused it \(SignatureDoesNotMatch\); OBS_ACCESS_KEY_ID and .* are wrong"
    ) as error:
        read_bytes("obs://bucket/x")
    told = "".join(traceback.format_exception(error.value))
    assert "PLANTED" not in told
    assert error.value.__context__ is error.value.__cause__ is None


@pytest.mark.parametrize(
    ("name", "told", "kind", "words"),
    [
        ("FileNotFoundError", "<Code>NoSuchBucket</Code>", FileNotFoundError, "there is no bucket b; correct its name"),
        ("FileNotFoundError", "", FileNotFoundError, "there is no such object"),
        ("AlreadyExistsError", "", FileExistsError, "already such an object"),
        ("PreconditionError", "", ConnectionError, "replaced meanwhile"),
        ("UnauthenticatedError", "", PermissionError, "set AWS_ACCESS_KEY_ID"),
        ("GenericError", "Received redirect without LOCATION", ConnectionError, "set AWS_REGION"),
        ("GenericError", "error in CredentialProvider", PermissionError, "no credentials were found"),
        ("GenericError", "dns error", ConnectionError, "the server's name is not known"),
        ("GenericError", "invalid peer certificate", ConnectionError, "certificate is not trusted"),
        ("InvalidPathError", "bad ?sig=PLANTEDSIGNATURE path", ValueError, "bad path|bad  path"),
    ],
)
def test_every_kind_of_failure_has_its_sentence(clean, name, told, kind, words):
    raised = getattr(obstore.exceptions, name, None) or getattr(builtins, name)

    def fail():
        raise raised(told)

    with pytest.raises(kind, match=words) as error:
        ask(at("s3://b/x"), "reading", fail)
    assert str(error.value).startswith("reading s3://b/x: ")
    assert "PLANTED" not in str(error.value)


def test_known_secrets_are_taken_out_of_whatever_is_repeated(clean):
    clean.setenv("AWS_SECRET_ACCESS_KEY", "PLANTEDSECRET")

    def fail():
        raise ValueError("odd value PLANTEDSECRET in a header")

    with pytest.raises(ValueError, match=r"odd value \*\*\* in a header"):
        ask(at("s3://b/x"), "opening", fail)


def test_without_the_extra_a_sentence_says_how_to_get_it(clean, monkeypatch):
    clean.setenv("OBS_REGION", "without")
    real = importlib.import_module

    def missing(name, *more):
        if name.startswith("obstore"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(module.importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"obs:// needs the package obstore: pip install 'maskrcnn\[cloud\]'"):
        read_bytes("obs://elsewhere/x")


def test_patience_is_a_number(clean):
    clean.setenv("MASKRCNN_STORAGE_PATIENCE", "long")
    with pytest.raises(ValueError, match="expected MASKRCNN_STORAGE_PATIENCE to be a number of seconds"):
        read_bytes("s3://bucket/x")


@pytest.mark.parametrize(
    ("address", "kind"), [("gs://b/x", "GCSStore"), ("az://b/x", "AzureStore"), ("s3://b/x", "S3Store")]
)
def test_each_scheme_opens_its_store(clean, address, kind):
    clean.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    opened, key = open_store(at(address))
    assert (type(opened).__name__, key) == (kind, "x")
    assert endpoint(at(address)) == ("account" if kind == "AzureStore" else "")


def test_a_web_server_is_not_listed():
    with pytest.raises(ValueError, match=r"https://host/x can only be read, not listed or written; expected s3://"):
        open_store(at("https://host/x?sig=PLANTED"))


def test_the_store_of_the_tests_survives_its_server():
    one = Store().start()
    one.put("x", b"1")
    port = one.port
    one.kill()
    assert one.start().port == port
    one.kill()
