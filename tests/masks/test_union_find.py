"""Groups that grow together."""

import numpy as np

from maskrcnn.masks.union_find import root_of, unite


def test_members_that_were_united_through_others_share_the_least_as_their_root():
    parents = np.arange(7)
    for one, other in ((5, 3), (6, 5), (2, 4), (3, 6)):
        unite(parents, one, other)
    assert [root_of(parents, member) for member in range(7)] == [0, 1, 2, 3, 2, 3, 3]
