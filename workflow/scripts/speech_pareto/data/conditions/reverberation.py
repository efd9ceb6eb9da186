"""Reverberation: a recording as a microphone hears it in a room, by the image source method.

Allen & Berkley, JASA 1979, as pyroomacoustics computes it (Scheibler et al., ICASSP 2018,
arXiv 1710.04196). All walls absorb alike, as much as Sabine's formula says of the wanted `rt60`:

    α = 24 ln 10 · V / (c · S · rt60)

The image sources of a room with a low ceiling die away more slowly than that formula has it. The
direct sound keeps its time, and the recording its loudness and its length: what is heard after its
end is cut. Ours: where the two stand is drawn for each recording, from `PLACES` of the room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

from speech_pareto.data.audio import SAMPLE_RATE
from speech_pareto.data.condition import Change, Others
from speech_pareto.data.loudness import speech_power
from speech_pareto.runtime.bounds import Within
from speech_pareto.runtime.extras import extra

if TYPE_CHECKING:
    import numpy as np

SPEED_OF_SOUND = 343.0  # m/s
WALL = 0.5  # m that speaker and microphone keep from walls
PLACES = 16  # pairs of places in a room
FARTHEST = 0.9  # of the length that walls leave: at all of it the two fit nowhere
ORDER = 200  # reflections of one sound at most: ten million images, 3 GB


@dataclass(frozen=True, kw_only=True)
class Setting(Change):
    """`reverberation` is the room: length, width and height in m. `rt60` is in s.

    `distance` is that of speaker and microphone in m, to the nearest sample of sound.
    """

    reverberation: tuple[Annotated[float, Within(1.5, 100, unit="m")], ...]
    rt60: Annotated[float, Within(0.05, 5, unit="s")]
    distance: Annotated[float, Within(0.1, 100, unit="m")] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "reverberation", tuple(self.reverberation))
        if len(self.reverberation) != 3:
            raise ValueError("reverberation: a room has length, width and height")
        if self.absorption > 1:
            least = math.ceil(100 * self.rt60 * self.absorption) / 100
            raise ValueError(f"rt60: in this room it is at least {least:g} s, with open walls")
        narrow = min(a * b / math.hypot(a, b) for a, b in combinations(self.reverberation, 2))
        if self.rt60 > (most := (ORDER + 1) * narrow / SPEED_OF_SOUND):
            said = f"{math.floor(100 * most) / 100:g} s, as more reflections take too much memory"
            raise ValueError(f"rt60: in this room it is at most {said}")
        if self.distance > (longest := FARTHEST * (max(self.reverberation[:2]) - 2 * WALL)):
            said = f"{longest:g} m, as both keep {WALL} m from the walls"
            raise ValueError(f"distance: in this room it is at most {said}")

    @property
    def absorption(self) -> float:
        """The share of energy that walls take."""
        x, y, z = self.reverberation
        surface = 2 * (x * y + x * z + y * z)
        return 24 * math.log(10) * x * y * z / (SPEED_OF_SOUND * surface * self.rt60)

    def apply(self, wave: np.ndarray, random: np.random.Generator, others: Others) -> np.ndarray:
        """Return the recording as heard in the room (samples,)."""
        import numpy as np

        with extra("workflow"):
            from scipy.signal import fftconvolve

        response, direct = impulse_response(self, int(random.integers(PLACES)))
        heard = fftconvolve(np.float64(wave), response)
        heard = heard[direct : direct + len(wave)]
        power = speech_power(heard)
        return (heard * np.sqrt(speech_power(wave) / power if power else 0.0)).astype(np.float32)


@cache
def impulse_response(room: Setting, place: int) -> tuple[np.ndarray, int]:
    """Return a room's response (samples,) at one of its places, and when direct sound comes."""
    import numpy as np

    with extra("workflow"):
        import pyroomacoustics

    pyroomacoustics.constants.set("num_threads", 1)  # else sums depend on how many there are
    random = np.random.default_rng(place)
    steps = max(1, round(room.distance * SAMPLE_RATE / SPEED_OF_SOUND))
    distance = steps * SPEED_OF_SOUND / SAMPLE_RATE
    low, high = np.full(3, WALL), np.asarray(room.reverberation) - WALL
    while True:
        microphone, angle = random.uniform(low, high), random.uniform(0, 2 * math.pi)
        speaker = microphone + distance * np.array([math.cos(angle), math.sin(angle), 0])
        if (speaker >= low).all() and (speaker <= high).all():
            break
    order = pyroomacoustics.inverse_sabine(room.rt60, room.reverberation, c=SPEED_OF_SOUND)[1]
    box = pyroomacoustics.ShoeBox(
        room.reverberation,
        fs=SAMPLE_RATE,
        materials=pyroomacoustics.Material(room.absorption),
        max_order=order,
    )
    box.set_sound_speed(SPEED_OF_SOUND)
    box.add_source(speaker)
    box.add_microphone(microphone)
    box.compute_rir()
    late = pyroomacoustics.constants.get("frac_delay_length") // 2  # of its interpolation
    return np.asarray(box.rir[0][0]), steps + late
