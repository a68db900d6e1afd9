"""A model of what a silicon probe records on its way through the hippocampus.

Field potentials are a few sources in time, each with a profile over depth, made at about 1,250 Hz and
interpolated; spikes and thermal noise come on top at the full rate. Theta is strong while the animal runs,
sharp-wave ripples come while it rests (Buzsaki 2015, https://doi.org/10.1002/hipo.22488). Amplitudes are in
microvolts throughout.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

MICROVOLTS_PER_COUNT = 0.195
"""The step of the widespread Intan amplifiers, microvolts."""

FIELD_RATE_HZ = 1250.0
REGIONS = (("cortex", 0.0), ("CA1", 0.34), ("DG", 0.66), ("thalamus", 0.86))
"""Names and where they begin, as a share of the probe's length from its top."""

SPIKE_S = 1.6e-3
REACH = 3  # channels to either side of a unit that still see it


@dataclass(frozen=True, slots=True)
class Unit:
    """A neuron that spikes at random."""

    channels: NDArray[np.intp]
    """(reach,), the channels that see it."""
    waveform: Floats
    """(samples, reach), microvolts."""
    rate_hz: float


@dataclass(frozen=True, slots=True)
class Recording:
    """All that is random about a session but its noise and spike times, which come chunk by chunk."""

    sources: Floats
    """(field samples, sources), unit amplitude; all that grows with the session, by about 1 % of it."""
    profiles: Floats
    """(sources, channels), microvolts."""
    noise: Floats
    """(channels,), microvolts RMS."""
    units: tuple[Unit, ...]
    step: int
    """Samples from one field sample to the next."""
    rate_hz: float
    seed: int

    def chunk(self, number: int, start: int, rows: int) -> NDArray[np.int16]:
        """Make a chunk of the recording; the same whichever thread makes it, and whenever.

        Parameters
        ----------
        number
            Of the chunk: what its noise and spikes are drawn from, along with the seed.
        start, rows
            Of the chunk, in samples.

        Returns
        -------
        numpy.ndarray
            (rows, channels), counts of 0.195 microvolts.
        """
        random = np.random.default_rng([self.seed, number])
        out = random.standard_normal((rows, self.noise.size), dtype=np.float32)
        out *= self.noise
        out += self._field(start, rows)
        for unit in self.units:
            self._add_spikes(out, unit, random)
        out *= np.float32(1 / MICROVOLTS_PER_COUNT)
        np.clip(np.rint(out, out=out), -32768, 32767, out=out)
        return out.astype(np.int16)

    def _field(self, start: int, rows: int) -> Floats:
        position = np.arange(start, start + rows)
        before, part = np.divmod(position, self.step)
        first = before[0]
        # einsum, not matmul: BLAS may add in another order with another number of threads
        coarse = np.einsum("ts,sc->tc", self.sources[first : before[-1] + 2], self.profiles)
        slope = np.diff(coarse, axis=0) / np.float32(self.step)
        field: Floats = slope[before - first]
        field *= part.astype(np.float32)[:, None]
        field += coarse[before - first]
        return field

    def _add_spikes(self, out: Floats, unit: Unit, random: np.random.Generator) -> None:
        count = random.poisson(unit.rate_hz * len(out) / self.rate_hz)
        room = len(out) - len(unit.waveform)  # spikes do not cross into the next chunk, which another thread makes
        if count and room > 0:
            rows = random.integers(0, room, count)[:, None] + np.arange(len(unit.waveform))
            np.add.at(out, (rows[:, :, None], unit.channels), unit.waveform)


def record(*, samples: int, channels: int, rate_hz: float, seed: int) -> Recording:
    """Draw the model of a session.

    Parameters
    ----------
    samples, channels
        The shape of the recording.
    rate_hz
        Samples a second.
    seed
        The same seed, the same session.
    """
    random = np.random.default_rng(seed)
    step = max(1, round(rate_hz / FIELD_RATE_HZ))
    field_rate = rate_hz / step
    time = np.arange(samples // step + 2) / field_rate
    depth = (np.arange(channels) + 0.5) / channels
    pairs = [*_background(time, depth, random), *_rhythms(time, depth, random)]
    return Recording(
        sources=np.stack([source for source, _ in pairs], axis=1).astype(np.float32),
        profiles=np.stack([profile for _, profile in pairs]).astype(np.float32),
        noise=random.uniform(4.5, 6.5, channels).astype(np.float32),
        units=tuple(_unit(channels, rate_hz, random) for _ in range(channels // 2)),
        step=step,
        rate_hz=rate_hz,
        seed=seed,
    )


Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def _background(time: NDArray[np.float64], depth: NDArray[np.float64], random: np.random.Generator) -> list[Pair]:
    """1/f sources, one common to all channels and some local ones."""
    pairs = [(_coloured(time, 0.8, random), np.full(depth.size, 35.0))]
    pairs += [(_coloured(time, 0.8, random), 45 * _bell(depth, centre, 0.12)) for centre in np.linspace(0, 1, 6)]
    return pairs


def _rhythms(time: NDArray[np.float64], depth: NDArray[np.float64], random: np.random.Generator) -> list[Pair]:
    running = _running(time, random)
    phase = 2 * np.pi * np.cumsum(7.6 + 0.5 * _coloured(time, 1.0, random)) * (time[1] - time[0])
    swell = (0.06 + running) * (1 + 0.15 * _coloured(time, 0.6, random))
    theta = 18 + 240 * _bell(depth, 0.575, 0.085) + 55 * _bell(depth, 0.76, 0.06)
    shift = np.pi / (1 + np.exp(-(depth - 0.49) / 0.025))  # theta turns over below the pyramidal layer
    gamma = _band(time, 55, 85, random) * (0.2 + running) * (1 + 0.8 * np.cos(phase))
    ripple, wave = _ripples(time, 1 - running, random)
    return [
        (swell * np.cos(phase), theta * np.cos(shift)),
        (swell * np.sin(phase), theta * np.sin(shift)),
        (gamma, 28 * _bell(depth, 0.56, 0.08)),
        (ripple, 130 * _bell(depth, 0.445, 0.028) + 12 * _bell(depth, 0.53, 0.05)),
        (wave, -330 * _bell(depth, 0.53, 0.045) + 60 * _bell(depth, 0.42, 0.04)),
    ]


def _running(time: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """0 at rest, 1 in a run, smooth in between; bouts of a few seconds."""
    bouts = random.uniform(3.0, 6.0, int(time[-1] / 3) + 3)
    bouts[0] *= 0.6
    state = (np.searchsorted(np.cumsum(bouts), time) % 2).astype(np.float64)
    width = max(1, round(0.7 / (time[1] - time[0])))
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(state, (width // 2, width - 1 - width // 2), mode="edge")
    size = padded.size + width - 1
    smooth = np.fft.irfft(np.fft.rfft(padded, size) * np.fft.rfft(window, size), size)
    out: NDArray[np.float64] = smooth[width - 1 : width - 1 + time.size] / window.sum()
    return out


def _ripples(
    time: NDArray[np.float64], resting: NDArray[np.float64], random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ripples at rest, about one in 0.7 s, and the sharp waves that go with them."""
    ripple, wave = np.zeros_like(time), np.zeros_like(time)
    for centre in np.cumsum(random.exponential(0.7, int(time[-1] / 0.7 * 1.5) + 4)):
        near = slice(*np.searchsorted(time, (centre - 0.2, centre + 0.2)))
        size, pitch = random.uniform(0.5, 1.2), random.uniform(140, 170)
        offset = time[near] - centre
        if offset.size and resting[near].min() > 0.8:
            ripple[near] += size * np.exp(-((offset / 0.028) ** 2)) * np.sin(2 * np.pi * pitch * offset)
            wave[near] += size * np.exp(-((offset / 0.045) ** 2))
    return ripple, wave


def _unit(channels: int, rate_hz: float, random: np.random.Generator) -> Unit:
    centre = int(random.integers(channels))
    near = np.arange(max(0, centre - REACH), min(channels, centre + REACH + 1))
    time = np.arange(max(2, round(SPIKE_S * rate_hz))) / rate_hz
    shape = -np.exp(-(((time - 0.45e-3) / 0.12e-3) ** 2)) + 0.35 * np.exp(-(((time - 0.85e-3) / 0.3e-3) ** 2))
    size = random.lognormal(np.log(90), 0.45)
    waveform = size * np.outer(shape, _bell(near.astype(np.float64), centre, 1.3))
    return Unit(near, waveform.astype(np.float32), rate_hz=float(random.lognormal(np.log(5), 0.7)))


def _coloured(time: NDArray[np.float64], power: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Noise with amplitude 1/f**power above 1 Hz, flat below; RMS 1."""
    frequency = np.fft.rfftfreq(time.size, time[1] - time[0])
    return _shaped(time.size, np.maximum(frequency, 1.0) ** -power, random)


def _band(time: NDArray[np.float64], low_hz: float, high_hz: float, random: np.random.Generator) -> NDArray[np.float64]:
    frequency = np.fft.rfftfreq(time.size, time[1] - time[0])
    return _shaped(time.size, _bell(frequency, (low_hz + high_hz) / 2, (high_hz - low_hz) / 4), random)


def _shaped(size: int, gain: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    noise = np.fft.irfft(np.fft.rfft(random.standard_normal(size)) * gain, size)
    noise -= noise.mean()
    return noise / max(float(np.std(noise)), 1e-12)


def _bell(at: NDArray[np.float64], centre: float, width: float) -> NDArray[np.float64]:
    bell: NDArray[np.float64] = np.exp(-0.5 * ((at - centre) / width) ** 2)
    return bell
