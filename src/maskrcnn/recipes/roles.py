"""Roles of settings, as their types in `maskrcnn.config` declare them."""

from collections.abc import Iterator
from functools import cache

from msgspec import Meta, structs

from maskrcnn.config import Recipe, Role, Settings


@cache
def settings_with(*roles: Role) -> frozenset[str]:
    """Return the dotted paths of the settings that have one of these roles."""
    return frozenset(path for path, role in roles_of(Recipe).items() if role in roles)


@cache
def roles_of(section: type[Settings]) -> dict[str, Role]:
    """Return the role of each setting in a section and its subsections, by dotted path.

    Raises TypeError for a setting that declares none.
    """
    return dict(_roles(section, ""))


def _roles(section: type[Settings], prefix: str) -> Iterator[tuple[str, Role]]:
    for field in structs.fields(section):
        path = f"{prefix}{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, Settings):
            yield from _roles(field.type, f"{path}.")
        else:
            yield path, _role(path, field.type)


def _role(path: str, kind: object) -> Role:
    for meta in getattr(kind, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.extra and "role" in meta.extra:
            return Role(meta.extra["role"])
    choices = ", ".join(role.value for role in Role)
    raise TypeError(
        f"the setting {path} declares no role; write its type as Learning[...] or with another role of "
        f"maskrcnn.config ({choices}), so that weights, training and exports know whether it concerns them"
    )
