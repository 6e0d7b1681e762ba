"""Groups that grow together: each member points towards the least of its group, and the way there is halved in use."""

from typing import no_type_check

from maskrcnn.kernels import kernel


@kernel()
@no_type_check
def root_of(parents, member):
    """The least member of a member's group."""
    while parents[member] != member:
        parents[member] = parents[parents[member]]
        member = parents[member]
    return member


@kernel()
@no_type_check
def unite(parents, one, other):
    """Make one group of those of two members."""
    one, other = root_of(parents, one), root_of(parents, other)
    parents[max(one, other)] = min(one, other)
