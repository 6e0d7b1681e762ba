"""Where chance places the window of each sample, and how it turns it: all that augmentation does to geometry.

Nothing here looks at pixels: a window of another size is another scale, and what it holds beyond the image is padding.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from maskrcnn.data.augment.levels import Pieces
from maskrcnn.data.dataset import Dataset
from maskrcnn.data.keys import uniform
from maskrcnn.view import View, extents_of

SCALE, ANGLE, TURNS, UPSIDE_DOWN, ALONG_X, ALONG_Y, AROUND, OBJECT = range(16, 24)
"""Streams of random numbers; those below are the plan's."""


class Objects(NamedTuple):
    """Objects that windows may be placed around."""

    boxes: Float32[np.ndarray, "O 4"]
    """xyxy, in the order of images."""
    first: Int64[np.ndarray, " N_plus_1"]
    """Image i owns boxes[first[i] : first[i + 1]]."""

    @classmethod
    def of(cls, data: Dataset) -> "Objects":
        """What a data set has to learn, but for crowd regions."""
        chosen = data.learnt & ~data.crowd
        return cls(data.boxes[chosen], np.concatenate([[0], np.cumsum(chosen)])[data.first_object])

    def draw(self, images: Int64[np.ndarray, " S"], keys: Int64[np.ndarray, " S"]) -> Float64[np.ndarray, "S 4"]:
        """The box of one object of each image, each of its objects as likely; NaN where there is none."""
        counts = self.first[images + 1] - self.first[images]
        drawn = self.first[images] + (uniform(keys, OBJECT) * counts).astype(np.int64)
        boxes = np.full((len(images), 4), np.nan)
        boxes[counts > 0] = self.boxes[drawn[counts > 0]]
        return boxes


def jitter(
    view: View,
    frames: Int64[np.ndarray, "S 4"],
    keys: Int64[np.ndarray, " S"],
    pieces: Pieces,
    *,
    box: Int64[np.ndarray, "S 2"] | None = None,
    around: Float64[np.ndarray, "S 4"] | None = None,
) -> View:
    """Turn views of whole samples, upright ones, into what chance makes of them: a function of keys alone.

    frames   windows of the samples, in which each keeps its place where it is neither enlarged nor turned
    box      (height, width) that results fill and samples are fitted into; None: results keep their sizes
    around   `Objects.draw`, for pieces with `whole_objects`
    Enlarged samples are cut by a window within their frame, placed evenly over all places, or over those at which it
    holds an object; reduced ones lie at the top left, or in the middle where they are turned by an angle.
    Source: large-scale jitter, Ghiasi et al. 2021, section 3.
    """
    view = _turned(view, keys, pieces)
    if not pieces.moves and (box is None or not pieces.quarter_turns):
        return view
    if box is not None:
        view = view._replace(sizes=torch.from_numpy(box))
    spans = (frames[:, 2:] - frames[:, :2]).astype(np.float64)
    shown = _shown(extents_of(view).numpy(), spans, keys, pieces, keep_ratio=box is not None)
    angles = (2 * uniform(keys, ANGLE) - 1) * pieces.angle
    places = _places(shown, spans, in_the_middle=pieces.angle > 0)
    if around is not None:
        boxes = np.where(uniform(keys, AROUND)[:, None] < pieces.whole_objects, around, np.nan)
        places = _places_around(boxes - frames[:, [0, 1, 0, 1]], shown, spans, angles, places)
    along = np.stack([uniform(keys, ALONG_X), uniform(keys, ALONG_Y)], axis=1)
    centres = frames[:, :2] + places.first + along * (places.last - places.first)
    windows = np.concatenate([centres - shown / 2, centres + shown / 2], axis=1)
    turned = torch.from_numpy(angles).float() if pieces.angle else None
    return view._replace(windows=torch.from_numpy(windows).float(), angles=turned)


def sizes_in_training(sizes: Int64[np.ndarray, "n 2"], pieces: Pieces) -> Int64[np.ndarray, "_ 2"]:
    """The (height, width) that buckets must hold: those of samples, and of turned ones where there are any."""
    return np.concatenate([sizes, sizes[:, ::-1]]) if pieces.quarter_turns else sizes


def _turned(view: View, keys: Int64[np.ndarray, " S"], pieces: Pieces) -> View:
    """Views with quarter turns, and upside down where chance says so: turned twice, mirrored once more."""
    if not pieces.quarter_turns and not pieces.flip_vertical:
        return view
    quarters = (4 * uniform(keys, TURNS)).astype(np.int64) * pieces.quarter_turns
    upside_down = torch.from_numpy(uniform(keys, UPSIDE_DOWN) < pieces.flip_vertical)
    turns = (torch.from_numpy(quarters) + 2 * upside_down) % 4
    sizes = torch.where((turns % 2 == 1)[:, None], view.sizes.flip(1), view.sizes)
    return view._replace(sizes=sizes, turns=turns, mirrored=view.mirrored ^ upside_down)


def _shown(
    extents: Int64[np.ndarray, "S 2"],
    spans: Float64[np.ndarray, "S 2"],
    keys: Int64[np.ndarray, " S"],
    pieces: Pieces,
    *,
    keep_ratio: bool,
) -> Float64[np.ndarray, "S 2"]:
    """(width, height) of the windows, in pixels of the images.

    extents, spans   (width, height) of results before they are turned, and of frames
    keep_ratio       frames are fitted into the results rather than stretched to them by the rounding of their sides
    """
    scales = extents / spans
    if keep_ratio:
        scales = scales.min(axis=1, keepdims=True)
    low, high = pieces.scale
    return extents / (scales * (low + (high - low) * uniform(keys, SCALE))[:, None])


class _Places(NamedTuple):
    """Bounds of the windows' centres, counted from the corners of their frames."""

    first: Float64[np.ndarray, "S 2"]
    last: Float64[np.ndarray, "S 2"]


def _places(shown: Float64[np.ndarray, "S 2"], spans: Float64[np.ndarray, "S 2"], *, in_the_middle: bool) -> _Places:
    """All places within the frame; a window that is larger has one."""
    one = spans / 2 if in_the_middle else shown / 2
    return _Places(np.where(shown < spans, shown / 2, one), np.where(shown < spans, spans - shown / 2, one))


def _places_around(
    boxes: Float64[np.ndarray, "S 4"],
    shown: Float64[np.ndarray, "S 2"],
    spans: Float64[np.ndarray, "S 2"],
    angles: Float64[np.ndarray, " S"],
    places: _Places,
) -> _Places:
    """Narrow places to those at which windows hold a box whole or, where it is larger, show nothing else.

    boxes   xyxy, from the corners of the frames; where a box is NaN, or lies beyond its frame, all places stay
    """
    low, high = boxes[:, :2].clip(min=0), np.minimum(boxes[:, 2:], spans)
    cosines, sines = (np.abs(turn(np.deg2rad(angles)))[:, None] for turn in (np.cos, np.sin))
    sides = high - low
    sides = cosines * sides + sines * sides[:, ::-1]
    room = np.abs(shown - sides) / 2
    needed = cosines * room + sines * room[:, ::-1]  # for a window at an angle that is moved by as much both ways
    room = room * np.divide(room, needed, out=np.zeros_like(room), where=needed > 0).min(axis=1, keepdims=True)
    centres = (low + high) / 2
    first, last = ((centres + way * room).clip(places.first, places.last) for way in (-1, 1))
    there = (high > low).all(axis=1, keepdims=True)
    return _Places(np.where(there, first, places.first), np.where(there, last, places.last))
