"""Random numbers of the built-in data set."""

import math

import numpy as np
from jaxtyping import Float64

Color = tuple[float, float, float]
"""Red, green, blue, 0..255."""


class Dice:
    """Random numbers that no release of NumPy changes: the raw words of PCG64, scaled here."""

    def __init__(self, *key: int) -> None:
        self._words = np.random.PCG64(list(key))

    def plane(self, height: int, width: int) -> Float64[np.ndarray, "{height} {width}"]:
        """Uniform in [0, 1)."""
        words = self._words.random_raw(height * width)
        return ((words >> np.uint64(11)) * 2.0**-53).reshape(height, width)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * (int(self._words.random_raw()) >> 11) * 2.0**-53

    def below(self, count: int) -> int:
        return int(self.uniform(0, count))

    def happens(self, probability: float) -> bool:
        return self.uniform() < probability

    def direction(self) -> tuple[float, float]:
        """A unit vector, any direction alike."""
        while True:
            x, y = self.uniform(-1, 1), self.uniform(-1, 1)
            length = math.sqrt(x * x + y * y)
            if 0.1 < length <= 1:
                return x / length, y / length

    def shade(self, hue: float) -> Color:
        """A light or dark, pale or full colour of a hue, in sixths of the colour circle from red."""
        brightest = self.uniform(70, 245)
        darkest = brightest * self.uniform(0.05, 0.55)

        def channel(offset: float) -> float:
            distance = abs((hue - offset + 3.0) % 6.0 - 3.0)  # from this channel's own hue
            return darkest + (brightest - darkest) * min(max(2.0 - distance, 0.0), 1.0)

        return channel(0.0), channel(2.0), channel(4.0)

    def color(self, saturation: float) -> Color:
        """1 gives any colour, less mixes it with grey."""
        red, green, blue = self.uniform(15, 240), self.uniform(15, 240), self.uniform(15, 240)
        grey = (red + green + blue) / 3
        return grey + saturation * (red - grey), grey + saturation * (green - grey), grey + saturation * (blue - grey)
