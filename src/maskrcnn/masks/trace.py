"""Run lengths -> rings, without a bitmap: a sweep over the columns.

In a column the foreground lies between rows where it is entered and left. Where two neighbouring columns agree in such
a row, a horizontal crack goes on; where only one has it, the outline turns. From top to bottom the turns of a line
between columns are joined in pairs by vertical cracks. So every corner gets the corner that follows it, with the object
on the right hand, and rings are read off. What it costs follows the runs, cut at the columns' ends.

A ring begins where its leftmost, uppermost vertical crack ends. A hole's first corner knows the crack above it in its
column: the object in between touches both, so that crack's ring is the hole's body or a hole of the same body.
"""

from typing import no_type_check

import numpy as np

from maskrcnn.kernels import kernel

_NONE = -1
_BELOW = 2**31 - 1  # all rows


@kernel()
@no_type_check
def trace(counts, stops, height):
    """(points, first point of each ring, first ring of each mask); a body's ring is followed by those of its holes.

    counts, stops   the runs of each mask follow those of the one before it up to its stop
    """
    corners, following, above, stop_corner = _corners(*_columns(counts, stops, height))
    start, length, body, first_ring = _rings(following, above, stop_corner)
    order = np.argsort(body, kind="mergesort")  # stable: a body was found before its holes
    points = np.empty(corners.shape, np.float32)
    first = np.zeros(len(order) + 1, np.int32)
    for r in range(len(order)):
        corner = start[order[r]]
        first[r + 1] = first[r] + length[order[r]]
        for i in range(first[r], first[r + 1]):
            points[i, 0], points[i, 1] = corners[corner, 0], corners[corner, 1]
            corner = following[corner]
    return points, first, first_ring


@kernel()
@no_type_check
def _columns(counts, stops, height):
    """(rows, x, first, stop_column): column c at x[c] is entered and left, in turn, at rows[first[c] : first[c + 1]].

    Columns without foreground stand where others end, at the beginning, and behind each mask.
    """
    pieces = _num_pieces(counts, stops, height)
    rows = np.empty(2 * pieces, np.int32)
    x = np.empty(2 * pieces + len(stops) + 1, np.int32)
    first = np.zeros(len(x) + 1, np.int32)
    stop_column = np.empty(len(stops), np.int32)
    x[0], num_rows, num_columns, k = _NONE, 0, 1, 0
    for d in range(len(stops)):
        column, begin, position, is_inside = -2, 0, np.int64(0), False
        while k < stops[d]:
            stop = position + np.int64(counts[k])
            while is_inside and position < stop:
                if position >= begin + height or column < 0:
                    beyond = column + 1
                    column = position // height
                    begin = column * height
                    if column > beyond > 0:
                        x[num_columns], num_columns = beyond, num_columns + 1
                        first[num_columns] = num_rows
                    x[num_columns], num_columns = column, num_columns + 1
                end = min(stop, begin + height)
                if num_rows > first[num_columns - 1] and rows[num_rows - 1] == position - begin:
                    num_rows -= 2  # a run of no pixels lies in between
                else:
                    rows[num_rows] = position - begin
                rows[num_rows + 1] = end - begin
                num_rows += 2
                first[num_columns] = num_rows
                position = end
            position, is_inside, k = stop, not is_inside, k + 1
        x[num_columns], num_columns = column + 1, num_columns + 1
        first[num_columns] = num_rows
        stop_column[d] = num_columns
    return rows, x, first, stop_column


@kernel()
@no_type_check
def _num_pieces(counts, stops, height):
    """Runs of foreground, cut at the columns' ends."""
    pieces = k = 0
    for d in range(len(stops)):
        position, is_inside = np.int64(0), False
        while k < stops[d]:
            stop = position + np.int64(counts[k])
            if is_inside and position < stop:
                pieces += (stop - 1) // height - position // height + 1
            position, is_inside, k = stop, not is_inside, k + 1
    return pieces


@kernel()
@no_type_check
def _corners(rows, x, first, stop_column):
    """(corners, following, above, stop_corner): where outlines turn, pair by pair down the lines between columns.

    above   of a corner at which a hole may begin: the one where the crack above it in its column begins
    """
    corners = np.empty((2 * len(rows), 2), np.int32)
    following = np.empty(2 * len(rows), np.int32)
    above = np.full(2 * len(rows), _NONE, np.int32)
    begun = np.empty(len(rows), np.int32)  # of the crack at each of the rows: the corner where it begins, at the left
    stop_corner = np.empty(len(stop_column), np.int32)
    corner = column = 0
    for d in range(len(stop_column)):
        while column + 1 < stop_column[d]:
            column += 1
            bounds = first[column - 1], first[column], first[column + 1]
            corner = _meet(rows, bounds, x[column], corner, corners, following, above, begun)
        stop_corner[d] = corner
    return corners[:corner], following[:corner], above[:corner], stop_corner


@kernel()
@no_type_check
def _meet(rows, bounds, x, corner, corners, following, above, begun):
    """Add the corners on the line between two columns; returns how many there are now."""
    left, right, stop = bounds
    i, j = left, right
    while i < right or j < stop:
        # Where foreground ends comes before where it begins: pixels that touch at a corner alone stay apart.
        key_i = 2 * rows[i] + (1 - (i - left) % 2) if i < right else _BELOW
        key_j = 2 * rows[j] + (1 - (j - right) % 2) if j < stop else _BELOW
        if key_i == key_j:
            begun[j] = begun[i]
            i, j = i + 1, j + 1
            continue
        corners[corner, 0], corners[corner, 1] = x, min(key_i, key_j) // 2
        if corner % 2:  # down with the object at the left, up with it at the right
            _join(corner - 1, corner, (j - right) % 2 == 0, following)
        if key_i < key_j:
            _join(begun[i], corner, key_i % 2 == 1, following)
            i += 1
        else:
            begun[j] = corner
            above[corner] = begun[j - 1] if j > right else _NONE
            j += 1
        corner += 1
    return corner


@kernel()
@no_type_check
def _join(one, other, is_forward, following):
    if is_forward:
        following[one] = other
    else:
        following[other] = one


@kernel()
@no_type_check
def _rings(following, above, stop_corner):
    """(first corner, number of corners, ring of the body) of each ring, and the first ring of each mask."""
    ring_of = np.full(len(following), _NONE, np.int32)
    start, length, body = np.empty((3, len(following) // 4), np.int32)
    first_ring = np.zeros(len(stop_corner) + 1, np.int64)
    ring = corner = 0
    for d in range(len(stop_corner)):
        while corner < stop_corner[d]:
            if ring_of[corner] == _NONE:
                is_hole = following[corner] == corner + 1
                start[ring] = corner + 1 if is_hole else corner
                body[ring] = body[ring_of[above[corner]]] if is_hole else ring
                length[ring] = _mark(ring_of, following, start[ring], ring)
                ring += 1
            corner += 2
        first_ring[d + 1] = ring
    return start[:ring], length[:ring], body[:ring], first_ring


@kernel()
@no_type_check
def _mark(ring_of, following, corner, ring):
    """Give a ring's corners its number; returns how many there are."""
    length = 0
    while ring_of[corner] != ring:
        ring_of[corner] = ring
        corner, length = following[corner], length + 1
    return length
