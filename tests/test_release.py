"""What `make release` refuses. That the wheel is complete is tested in test_packaging.py; trying it takes a network."""

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[1] / "tools" / "release.py"
CHANGELOG = """# Changelog

What is unreleased stands first.

## 0.2.0 (unreleased)

### Added

- A second thing.

## 0.1.0 (2027-01-31)

- A first thing.
"""
RELEASED = CHANGELOG.replace("unreleased)", "2027-02-28)")


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_newest_changes_are_the_notes(release):
    assert release.newest(CHANGELOG) == ("0.2.0", "unreleased", "### Added\n\n- A second thing.")


def test_a_changelog_without_versions_is_refused(release):
    with pytest.raises(ValueError, match=r"expected a heading such as `## 1.2.3 \(unreleased\)`, found none"):
        release.newest("# Changelog\n")


def test_a_rehearsal_needs_no_date_and_a_release_does(release):
    release.check(release.newest(CHANGELOG), "0.2.0", None)
    release.check(release.newest(RELEASED), "0.2.0", "v0.2.0")
    with pytest.raises(ValueError, match=r"expected a date behind 0\.2\.0, found 'unreleased'"):
        release.check(release.newest(CHANGELOG), "0.2.0", "v0.2.0")


@pytest.mark.parametrize("tag", ["0.2.0", "v0.1.0", "v0.2.0rc1", ""])
def test_another_tag_is_refused(release, tag):
    with pytest.raises(ValueError, match=r"expected the tag v0\.2\.0, as in pyproject\.toml, received"):
        release.check(release.newest(RELEASED), "0.2.0", tag)


def test_changes_of_another_version_are_refused(release):
    with pytest.raises(
        ValueError, match=r"CHANGELOG\.md: expected 0\.3\.0 first, as in pyproject\.toml, found 0\.2\.0"
    ):
        release.check(release.newest(RELEASED), "0.3.0", None)
