"""What goes wrong between here and a store, in sentences of our own: what obstore says may hold secrets."""

import re

from maskrcnn.storage.credentials import keys_set, secrets
from maskrcnn.storage.location import Location, printable

MACHINE = r"Error performing \w+ https?://(169\.254\.|\[fd00:ec2::|metadata[.:/])"
"""Sign of a question for the machine's own role, which is asked where no keys are given. A proxy may have answered."""
PASSING = (0, 408, 429)
"""Statuses of what may go by itself, beside those of 500 and more; 0 where there was no whole answer."""
REASONS = {
    "dns error": "the server's name is not known",
    "ConnectionRefused": "nobody answers at the server's address",
    "TimedOut": "the server did not answer in time",
    "operation timed out": "the server did not answer in time",
    "certificate": "the server's certificate is not trusted",
    "InvalidContentType": "the server does not speak https",
    "Connect,": "the server could not be reached",
    "error decoding": "the connection was lost",
    "kind: Body": "the connection was lost",
    "kind: Decode": "the connection was lost",
    "IncompleteMessage": "the connection was lost",
    "kind: Request": "the connection was lost",
}
"""Signs in obstore's text of what went wrong on the way, and what to say."""


class Lost(ConnectionError):
    """A lost connection or a failed server: asking again may help."""


def failure_of(location: Location, what: str, error: Exception, seconds: float, server: str) -> OSError | ValueError:
    """The sentence for what obstore raised, of the kind that Python has for it.

    what      the doing, as in "reading s3://..."
    seconds   for which it was tried
    server    the endpoint, empty for the usual one
    """
    name, told = type(error).__name__, str(error)
    doing, status = f"{what} {location}", _status(told)
    if re.search(MACHINE, told):
        return PermissionError(f"{doing}: no credentials were found; {_where_from(location)}")
    if status >= 500:
        return _on_the_way(doing, told, seconds, server)
    if "<Code>NoSuchBucket<" in told:
        return FileNotFoundError(f"{doing}: there is no bucket {location.bucket}; correct its name or region")
    if isinstance(error, FileNotFoundError) or "<Code>NoSuchKey<" in told:
        return FileNotFoundError(f"{doing}: there is no such object; list its folder, or correct the address")
    if name in ("PermissionDeniedError", "UnauthenticatedError") or status in (401, 403):
        return PermissionError(f"{doing}: the store refused it{_code(told)}; {_after_refusal(location)}")
    if name == "AlreadyExistsError":
        return FileExistsError(f"{doing}: there is already such an object; remove it or choose another name")
    if name == "PreconditionError":
        return ConnectionError(f"{doing}: the object was replaced meanwhile; try again")
    if "CredentialProvider" in told or "token request" in told:
        return PermissionError(f"{doing}: no credentials were found; {_where_from(location)}")
    if "redirect without LOCATION" in told:
        return ConnectionError(f"{doing}: the bucket lies in another region; set AWS_REGION to it")
    if key := re.match(r'Encountered object with invalid path: .*?Path "(.*?)" ?(contained|:)', told):
        return ValueError(
            f"{doing}: the object with the key {_clean(key[1])!r} cannot be read, nor be a file; give it another key "
            "(without //, . and .. between its names), or name a folder that does not hold it"
        )
    if name in ("InvalidPathError", "UnknownConfigurationKeyError", "ValueError"):
        return ValueError(f"{doing}: {_clean(told)}; correct the address or the variables of docs/storage.md")
    return _on_the_way(doing, told, seconds, server)


def _on_the_way(doing: str, told: str, seconds: float, server: str) -> ConnectionError:
    status = _status(told)
    signs = (words for sign, words in REASONS.items() if sign in told)
    reason = "the server failed" if status >= 500 else next(signs, "the server's answer was not understood")
    kind = Lost if status >= 500 or status in PASSING else ConnectionError
    return kind(
        f"{doing}: {reason}{_code(told)}, tried for {round(seconds, 1):g} s (MASKRCNN_STORAGE_PATIENCE); look at the "
        f"network and the endpoint{server and ' '}{printable(server)}, then run the command again: what is complete is "
        "kept"
    )


def _after_refusal(location: Location) -> str:
    """What to look at where a store refuses: keys that are there, or where some would come from."""
    names = keys_set(location.scheme)
    if names is None:
        return _where_from(location)
    key, secret, token = names
    return (
        f"{key} and {secret} are set, and are wrong, or are not allowed to do it; temporary keys need {token} too "
        "(docs/storage.md)"
    )


def _where_from(location: Location) -> str:
    """Where this kind of store's credentials come from."""
    return {
        "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, and AWS_REGION",
        "obs": "set OBS_ACCESS_KEY_ID and OBS_SECRET_ACCESS_KEY, for temporary keys also OBS_SECURITY_TOKEN",
        "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a service account's file",
        "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
    }.get(location.scheme, "") + " (docs/storage.md); for public data AWS_SKIP_SIGNATURE=1 or its kin"


def _status(told: str) -> int:
    """The HTTP status in obstore's text; 0 where there is none."""
    found = re.search(r"(?i)status(?: code)?:? ?\(?(\d{3})", told)
    return int(found[1]) if found else 0


def _code(told: str) -> str:
    """The store's own word for what went wrong, such as `AccessDenied`, in brackets."""
    found = re.search(r"<Code>(\w{3,60})</Code>", told)
    return f" ({found[1]})" if found else f" (status {_status(told)})" if _status(told) else ""


def _clean(told: str) -> str:
    """The first line of a text without addresses' queries and without the credentials that are known."""
    line = re.sub(r"\?[^\s,)\"']+", "", told.strip().partition("\n")[0])[:200]
    for secret in secrets():
        line = line.replace(secret, "***")
    return line
