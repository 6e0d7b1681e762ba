"""Roles of settings: what each decides, as its type in `maskrcnn.config` declares it."""

from collections.abc import Iterator
from functools import cache

from msgspec import Meta, structs

from maskrcnn.config import Recipe, Role, Settings


@cache
def settings_with(*roles: Role) -> frozenset[str]:
    """Dotted paths of a recipe's settings that have one of these roles."""
    return frozenset(path for path, role in roles_of(Recipe).items() if role in roles)


@cache
def roles_of(section: type[Settings]) -> dict[str, Role]:
    """Role of each setting of a section and of the sections inside it, by dotted path.

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
        f"the setting {path} declares no role; write its type as Learning[...] or by another of the roles in "
        f"maskrcnn.config ({choices}), so that weights, training and exports know whether it is theirs"
    )
