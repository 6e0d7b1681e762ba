"""Credentials and endpoints from the variables and files where the stores' own tools look for them."""

import configparser
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

Config = dict[str, str]


class Secret(str):
    """A text that no traceback, log or debugger shows unless somebody prints it on purpose."""

    def __repr__(self) -> str:
        return "'***'"


KEYS = ("access_key_id", "secret_access_key", "session_token")
OBS_KEYS = (
    ("OBS_ACCESS_KEY_ID", "OBS_SECRET_ACCESS_KEY", "OBS_SECURITY_TOKEN"),
    ("AccessKeyID", "SecretAccessKey", "SecurityToken"),
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
"""Variables of an OBS access key, its secret and its token, first come first taken: two sets of Huawei's own tools,
then Amazon's, which users of the S3 interface set."""
OBS_ENDPOINT = ("OBS_ENDPOINT", "S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
S3_ENDPOINT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "S3_ENDPOINT")
HUAWEI = r"(?:^|\.)obs\.([a-z0-9-]+)\.my(?:huaweicloud|obs)\."
"""Host of an OBS endpoint and its region."""
UNSIGNED = ("AWS_SKIP_SIGNATURE", "OBS_SKIP_SIGNATURE")


def obs_config(bucket: str) -> Config:
    """Settings of a store of S3's interface for an OBS bucket: its own host, signature 4, no optional checksums.

    Raises ValueError where no endpoint or region is named.
    """
    region, endpoint = _first("OBS_REGION"), _first(*OBS_ENDPOINT)
    if not endpoint and not region:
        raise ValueError(
            f"obs://{bucket}: expected the endpoint of its region, found none; set OBS_ENDPOINT, such as "
            "https://obs.cn-north-4.myhuaweicloud.com, or OBS_REGION, such as cn-north-4"
        )
    endpoint = endpoint or f"https://obs.{region}.myhuaweicloud.com"
    names = next((names for names in OBS_KEYS if _first(names[0])), None)
    keys = dict(zip(KEYS, map(_first, names), strict=True)) if names else _profile()
    return _s3(bucket, endpoint, region or _region_of(endpoint), keys, hosted=True)


def s3_config(bucket: str) -> Config:
    """Settings of a store of S3's interface beyond what obstore reads from AWS_* variables by itself."""
    has_keys = bool(_first("AWS_ACCESS_KEY_ID"))
    profile = {} if has_keys and _first("AWS_REGION", "AWS_DEFAULT_REGION") else _profile()
    endpoint = _first(*S3_ENDPOINT) or profile.get("endpoint", "")
    region = _first("AWS_REGION", "AWS_DEFAULT_REGION") or profile.get("region", "") or _region_of(endpoint)
    keys = {} if has_keys else profile
    hosted = _first("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").lower() in ("1", "true") or bool(_huawei(endpoint))
    return _s3(bucket, endpoint, region, keys, hosted=hosted)


def in_host(bucket: str, endpoint: str) -> str:
    """An endpoint whose host begins with the bucket, `https://BUCKET.HOST`, as virtual-hosted addresses have it.

    An address in numbers has no names before it, and stays.
    """
    parts = urlsplit(endpoint)
    if _is_number(parts.hostname or "") or parts.netloc.startswith(f"{bucket}."):
        return endpoint
    return urlunsplit(parts._replace(netloc=f"{bucket}.{parts.netloc}"))


def keys_set(scheme: str) -> tuple[str, str, str] | None:
    """Names of the variables of a key, its secret and its token that are in use; None where no key and secret are."""
    candidates = {"obs": OBS_KEYS, "s3": OBS_KEYS[-1:]}.get(scheme, ())
    found = next((names for names in candidates if _first(names[0])), None)
    return found if found and _first(found[1]) else None


def secrets() -> list[str]:
    """Values that must not be printed, as the environment and the files of AWS hold them."""
    names = [name for names in OBS_KEYS for name in names]
    names += [name for name in os.environ if re.search("(?i)secret|token|password|access_?key|sas_key", name)]
    return sorted(
        {value for value in (*map(_first, names), *map(_profile().get, KEYS)) if value and len(value) >= 8}, key=len
    )[::-1]


def _s3(bucket: str, endpoint: str, region: str, keys: Mapping[str, str], *, hosted: bool) -> Config:
    config: Config = {name: Secret(keys[name]) for name in KEYS if keys.get(name)}
    if region:
        config["region"] = region
    if endpoint:
        endpoint = _with_scheme(endpoint)
        hosted = hosted and not _is_number(urlsplit(endpoint).hostname or "")
        # the one that goes before all others: AWS_ENDPOINT_URL_S3 may name Amazon's beside Huawei's
        config["aws_endpoint_url_s3"] = in_host(bucket, endpoint) if hosted else endpoint
    if hosted:
        config["virtual_hosted_style_request"] = "true"
    if _first(*UNSIGNED).lower() in ("1", "true"):
        config["skip_signature"] = "true"
    return config


def _first(*names: str) -> str:
    """The first of some variables that is set to something."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), "")


def _with_scheme(endpoint: str) -> str:
    """An endpoint with its scheme; ModelArts' S3_ENDPOINT is a bare host, which S3_USE_HTTPS=0 makes plain HTTP."""
    if "://" in endpoint:
        return endpoint.rstrip("/")
    return f"{'http' if _first('S3_USE_HTTPS') == '0' else 'https'}://{endpoint.rstrip('/')}"


def _region_of(endpoint: str) -> str:
    found = _huawei(endpoint)
    return found[1] if found else ""


def _huawei(endpoint: str) -> re.Match[str] | None:
    return re.search(HUAWEI, urlsplit(_with_scheme(endpoint)).hostname or "") if endpoint else None


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _profile() -> Config:
    """What AWS' files say about the chosen profile, which obstore does not read; empty where there are none.

    AWS_PROFILE chooses it; AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE name the files elsewhere.
    """
    profile = _first("AWS_PROFILE", "AWS_DEFAULT_PROFILE") or "default"
    sections = {"AWS_CONFIG_FILE": ("config", f"profile {profile}"), "AWS_SHARED_CREDENTIALS_FILE": ("credentials", "")}
    found: Config = {}
    for variable, (name, section) in sections.items():
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read(_first(variable) or Path.home() / ".aws" / name, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeError, RuntimeError):
            continue
        for candidate in (profile, section):
            found |= dict(parser[candidate]) if parser.has_section(candidate) else {}
    names = {
        "aws_access_key_id": "access_key_id",
        "aws_secret_access_key": "secret_access_key",
        "aws_session_token": "session_token",
        "region": "region",
        "endpoint_url": "endpoint",
    }
    return {ours: found[theirs] for theirs, ours in names.items() if found.get(theirs)}
