"""Tables of pages in Markdown that are written again whenever what they tell has changed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence


def fill(page: str, tables: Mapping[str, Iterable[str]]) -> str:
    """Replace the text of a page between each `<!-- NAME -->` and `<!-- /NAME -->` by lines.

    Raises ValueError for a page that does not have each of these marks once.
    """
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"expected one {begin.strip()} and one {end} in the page")
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n" + "\n".join(lines) + f"\n\n{end}{rest.partition(end)[2]}"
    return page


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in Markdown."""
    for cells in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
