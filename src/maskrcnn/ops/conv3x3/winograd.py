"""Tiles of pixels to points and back: F(4 x 4, 3 x 3) of Lavin and Gray 2016, at 0, 1, -1, 2, -2 and infinity.

A tile of results is Y = A^T [(G g G^T) * (B^T d B)] A (their eq. 8, with the matrices of section 4.3) of a patch of
6 x 6 inputs d and weights g, where * multiplies the 36 points one by one; summed over input channels, it is a product
of matrices at each point. By the chain rule the gradient of the weights is G^T [(A dY A^T) * (B^T d B)] G, summed over
tiles.

Each function below is one of these matrices times a vector, with what two rows share worked out once. A matrix on both
sides is that function along columns of a tile, then along its rows, a vector of channels at a time.
"""

from typing import Any, no_type_check

from maskrcnn.ops.vectors import COLUMNS, FLOAT, WIDTH, clear, jit, move, prefetch, shift, transform

TILE, PATCH = 4, 6
POINTS = PATCH * PATCH
GROUP = 64
"""Channels whose weights are put in order at a time: some lines of memory, and less than a cache."""
AHEAD = 4
"""Channels by which weights are asked for before they are needed."""
LINE = 16
"""Numbers of a line of memory."""


def of_inputs(d0: Any, d1: Any, d2: Any, d3: Any, d4: Any, d5: Any) -> list[Any]:
    """B^T d: six neighbouring inputs to the six points."""
    even, odd = d4 - 4 * d2, d3 - 4 * d1
    far, near = d4 - d2, 2 * (d3 - d1)
    return [4 * d0 - 5 * d2 + d4, even + odd, even - odd, far + near, far - near, 4 * d1 - 5 * d3 + d5]


def of_weights(g0: Any, g1: Any, g2: Any) -> list[Any]:
    """G g: three neighbouring weights to the six points."""
    ends, middle = (g0 + g2) * (1 / 6), g1 * (1 / 6)
    far, near = g0 * (1 / 24) + g2 * (1 / 6), g1 * (1 / 12)
    return [g0 * (1 / 4), (ends + middle) * -1.0, middle - ends, far + near, far - near, g2]


def to_outputs(d0: Any, d1: Any, d2: Any, d3: Any, d4: Any, d5: Any) -> list[Any]:
    """A^T m: products at the six points to four neighbouring results."""
    near, near_odd = d1 + d2, d1 - d2
    far, far_odd = d3 + d4, 2 * (d3 - d4)
    return [d0 + near + far, near_odd + far_odd, near + 4 * far, near_odd + 4 * far_odd + d5]


def of_gradients(d0: Any, d1: Any, d2: Any, d3: Any) -> list[Any]:
    """A dY: gradients of four neighbouring results to the six points, the transpose of `to_outputs`."""
    even, odd = d0 + d2, d1 + d3
    far, near = d0 + 4 * d2, 2 * d1 + 8 * d3
    return [d0, even + odd, even - odd, far + near, far - near, d3]


def to_weights(d0: Any, d1: Any, d2: Any, d3: Any, d4: Any, d5: Any) -> list[Any]:
    """G^T m: gradients at the six points to those of three weights, the transpose of `of_weights`."""
    near, near_odd = (d1 + d2) * (1 / 6), (d2 - d1) * (1 / 6)
    far, far_odd = (d3 + d4) * (1 / 24), (d3 - d4) * (1 / 12)
    return [d0 * (1 / 4) - near + far, near_odd + far_odd, 4 * far - near + d5]


_of_inputs, _of_weights, _of_gradients = transform(of_inputs, 6), transform(of_weights, 3), transform(of_gradients, 4)
_to_outputs, _to_weights = transform(to_outputs, 6), transform(to_weights, 6)


SCRATCH = 2 * POINTS * WIDTH
"""Numbers that each transform of a tile wants for itself, handed in by the caller."""
WEIGHT_SCRATCH = 3 * PATCH * WIDTH
"""Numbers that each transform of weights wants for itself."""


@jit
@no_type_check
def pixels_to_points(pixels, first, count, values, point_step, tile_step, group, group_step, scratch):
    """Transform tiles of the input, each with a border of one.

    pixels    (B, H, W, C)
    values    flat; points and tiles lie the given numbers of floats apart, `group` channels are neighbours, and such
              groups lie `group_step` apart
    scratch   `SCRATCH` numbers
    """
    height, width, channels = pixels.shape[1:]
    patch, half = scratch.ctypes.data, scratch.ctypes.data + FLOAT * POINTS * WIDTH
    for number in range(count):
        y, x, corner = _corner_of(height, width, first + number, 1)
        # A patch inside the image is read where it lies; at the edge it is copied first, with zeros around the image.
        is_inside = 0 <= y <= height - PATCH and 0 <= x <= width - PATCH
        for channel in range(0, channels, WIDTH):
            source, row, column = pixels.ctypes.data + FLOAT * (corner * channels + channel), width * channels, channels
            if not is_inside:
                _gather(source, y, x, height, width, channels, PATCH, patch)
                source, row, column = patch, PATCH * WIDTH, WIDTH
            offset = number * tile_step + channel // group * group_step + channel % group
            target = values.ctypes.data + FLOAT * offset
            # B^T d, one column of the patch after the other, then (B^T d) B, one row after the other: the first half
            # stays in the cache, the second goes to where the products want it.
            for j in range(PATCH):
                _of_inputs(source + FLOAT * j * column, row, half + FLOAT * j * WIDTH, PATCH * WIDTH)
            for i in range(PATCH):
                _of_inputs(half + FLOAT * i * PATCH * WIDTH, WIDTH, target + FLOAT * i * PATCH * point_step, point_step)


@jit
@no_type_check
def gradient_to_points(pixels, first, count, values, point_step, tile_step, group, group_step, scratch):
    """Transform tiles of the result's gradient, which have no border; arguments as of `pixels_to_points`."""
    height, width, channels = pixels.shape[1:]
    patch, half = scratch.ctypes.data, scratch.ctypes.data + FLOAT * POINTS * WIDTH
    for number in range(count):
        y, x, corner = _corner_of(height, width, first + number, 0)
        for channel in range(0, channels, WIDTH):
            source = pixels.ctypes.data + FLOAT * (corner * channels + channel)
            _gather(source, y, x, height, width, channels, TILE, patch)
            offset = number * tile_step + channel // group * group_step + channel % group
            target = values.ctypes.data + FLOAT * offset
            # A dY, 4 columns to 6 points each, then (A dY) A^T, 6 rows to 6 points each.
            for j in range(TILE):
                _of_gradients(patch + FLOAT * j * WIDTH, TILE * WIDTH, half + FLOAT * j * WIDTH, PATCH * WIDTH)
            for i in range(PATCH):
                _of_gradients(
                    half + FLOAT * i * PATCH * WIDTH, WIDTH, target + FLOAT * i * PATCH * point_step, point_step
                )


@jit
@no_type_check
def points_to_pixels(values, point_step, tile_step, pixels, first, count, offset, floor, scratch):
    """Transform tiles of the result back, add an offset to each channel, and clip at `floor`.

    scratch   `SCRATCH` numbers
    """
    height, width, channels = pixels.shape[1:]
    patch, half = scratch.ctypes.data, scratch.ctypes.data + FLOAT * POINTS * WIDTH
    for number in range(count):
        y, x, corner = _corner_of(height, width, first + number, 0)
        for channel in range(0, channels, WIDTH):
            source = values.ctypes.data + FLOAT * (number * tile_step + channel)
            # A^T m, 6 columns to 4 results each, then (A^T m) A, 4 rows to 4 results each.
            for j in range(PATCH):
                at = source + FLOAT * j * point_step
                _to_outputs(at, PATCH * point_step, half + FLOAT * j * WIDTH, PATCH * WIDTH)
            for i in range(TILE):
                _to_outputs(half + FLOAT * i * PATCH * WIDTH, WIDTH, patch + FLOAT * i * TILE * WIDTH, WIDTH)
            # Results beyond the image, of tiles at its lower and right edge, are left out.
            for i in range(min(TILE, height - y)):
                for j in range(min(TILE, width - x)):
                    target = pixels.ctypes.data + FLOAT * ((corner + i * width + j) * channels + channel)
                    cell = patch + FLOAT * (i * TILE + j) * WIDTH
                    shift(cell, offset.ctypes.data + FLOAT * channel, floor, target)


@jit
@no_type_check
def weights_to_points(weight, panels, origin, gathered, scratch, first, stop):
    """Transform panels first..stop, `COLUMNS` outputs each, of (C, K, 3, 3) to (36, C * COLUMNS for each of them).

    origin     the panel that lies first in `panels`
    gathered   (GROUP, COLUMNS, 3, 3), outputs beside each other, for weights whose outputs are not
    scratch    `WEIGHT_SCRATCH` numbers
    """
    channels = weight.shape[0]
    for panel in range(first, stop):
        for start in range(0, channels, GROUP):
            # Vectors are of outputs: where these are not neighbours in memory, some channels are put in order first.
            group = weight[start : start + GROUP, panel * COLUMNS : (panel + 1) * COLUMNS]
            if group.strides[1] != FLOAT:
                _gather_weights(group, gathered)
                group = gathered[: len(group), :COLUMNS]
            _group_to_points(group, panels, ((panel - origin) * channels + start) * COLUMNS, scratch)


@jit
@no_type_check
def _group_to_points(weight, panels, offset, scratch):
    """Transform some channels of a panel, (c, COLUMNS, 3, 3), outputs beside each other, to `offset` in the panels."""
    row, tap = weight.strides[2] // FLOAT, weight.strides[3] // FLOAT
    half, point_step = scratch.ctypes.data, panels.shape[1]
    for channel in range(len(weight)):
        _prefetch_taps(weight, channel + AHEAD)
        for column in range(0, COLUMNS, WIDTH):
            own = weight.ctypes.data + channel * weight.strides[0] + FLOAT * column
            target = panels.ctypes.data + FLOAT * (offset + channel * COLUMNS + column)
            # G g, 3 columns to 6 points each, then (G g) G^T, 6 rows to 6 points each.
            for j in range(3):
                _of_weights(own + FLOAT * j * tap, row, half + FLOAT * j * WIDTH, 3 * WIDTH)
            for i in range(PATCH):
                point = target + FLOAT * i * PATCH * point_step
                _of_weights(half + FLOAT * i * 3 * WIDTH, WIDTH, point, point_step)


@jit
@no_type_check
def _prefetch_taps(weight, channel):
    for i in range(3):
        for j in range(3):
            offset = channel * weight.strides[0] + i * weight.strides[2] + j * weight.strides[3]
            prefetch(weight.ctypes.data + offset)


@jit
@no_type_check
def _gather_weights(weight, gathered):
    """Copy some channels and outputs (c, k, 3, 3), one line of memory after the other."""
    for output in range(weight.shape[1]):
        for i in range(3):
            for j in range(3):
                offset = (output + 1) * weight.strides[1] + i * weight.strides[2] + j * weight.strides[3]
                following = weight.ctypes.data + offset  # of the next output, asked for while this one is copied
                for channel in range(0, len(weight), LINE):
                    prefetch(following + channel * weight.strides[0])
                for channel in range(len(weight)):
                    gathered[channel, output, i, j] = weight[channel, output, i, j]


@jit
@no_type_check
def points_to_weights(points, weight, scratch):
    """Transpose `weights_to_points`, from (36, K, C) to (K, 3, 3, C).

    scratch   `WEIGHT_SCRATCH` numbers
    """
    outputs, channels = points.shape[1:]
    half, step = scratch.ctypes.data, outputs * channels
    for output in range(outputs):
        for channel in range(0, channels, WIDTH):
            source = points.ctypes.data + FLOAT * (output * channels + channel)
            target = weight.ctypes.data + FLOAT * (output * 9 * channels + channel)
            # G^T m, 6 columns to 3 weights each, then (G^T m) G, 3 rows to 3 weights each.
            for j in range(PATCH):
                _to_weights(source + FLOAT * j * step, PATCH * step, half + FLOAT * j * WIDTH, PATCH * WIDTH)
            for i in range(3):
                _to_weights(half + FLOAT * i * PATCH * WIDTH, WIDTH, target + FLOAT * i * 3 * channels, channels)


@jit
@no_type_check
def _corner_of(height, width, tile, border):
    """Find a tile's first pixel: row, column, and number in the batch; with a border it may lie outside the image."""
    across = (width + TILE - 1) // TILE
    of_image = across * ((height + TILE - 1) // TILE)
    image, y, x = tile // of_image, TILE * (tile % of_image // across) - border, TILE * (tile % across) - border
    return y, x, (image * height + y) * width + x


@jit
@no_type_check
def _gather(source, y, x, height, width, channels, side, patch):
    """Copy a vector of each of side x side pixels; those beyond the image are zero."""
    for i in range(side):
        for j in range(side):
            target = patch + FLOAT * (i * side + j) * WIDTH
            if 0 <= y + i < height and 0 <= x + j < width:
                move(source + FLOAT * (i * width + j) * channels, 0, target, 0)
            else:
                clear(target)
