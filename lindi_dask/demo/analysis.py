"""What the demo computes of each block of a recording, and how the blocks come together.

Reproducible to the bit, wherever it runs: sums of squares are of integers, and a window of a spectrum never
straddles two blocks, so with the same blocks there is only one order of adding up. Blocks must therefore be
the same in runs that are compared, and should be whole windows long: samples after a block's last whole
window are in its RMS, but in no spectrum.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THETA_HZ = (5.0, 11.0)
THETA_WINDOW = 16_384
"""Samples: 0.55 s at 30 kHz, so bins of 1.8 Hz."""

RIPPLE_HZ = (110.0, 200.0)
RIPPLE_WINDOW = 2_048
"""Samples: 68 ms at 30 kHz, about as long as a ripple."""


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """What is kept of a block."""

    samples: int
    sum_squares: NDArray[np.int64]
    """(channels,), counts squared."""
    theta: NDArray[np.float64]
    """(windows, channels), counts squared."""
    ripple: NDArray[np.float64]
    """(windows, channels), counts squared."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """The whole recording's."""

    rms: NDArray[np.float64]
    """(channels,), counts."""
    theta: NDArray[np.float64]
    """(windows, channels), counts squared; windows of `THETA_WINDOW` samples."""
    ripple: NDArray[np.float64]
    """(windows, channels), counts squared; windows of `RIPPLE_WINDOW` samples."""

    def equals(self, other: "Analysis") -> bool:
        """Tell whether another analysis is the same to the last bit."""
        pairs = ((self.rms, other.rms), (self.theta, other.theta), (self.ripple, other.ripple))
        return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def summarise(block: NDArray[np.int16], rate_hz: float) -> BlockSummary:
    """Reduce a block (samples, channels) to what the demo shows."""
    return BlockSummary(
        samples=len(block),
        sum_squares=sum_squares(block),
        theta=band_power(block, rate_hz, THETA_HZ, window=THETA_WINDOW),
        ripple=band_power(block, rate_hz, RIPPLE_HZ, window=RIPPLE_WINDOW),
    )


def combine(summaries: Iterable[BlockSummary]) -> Analysis:
    """Put the summaries of a recording's blocks together; they come in the order of time.

    Raises
    ------
    ValueError
        If there is none.
    """
    parts = list(summaries)
    if not parts:
        raise ValueError("there is no block to combine")
    total = np.sum([part.sum_squares for part in parts], axis=0)
    return Analysis(
        rms=np.sqrt(total / sum(part.samples for part in parts)),
        theta=np.concatenate([part.theta for part in parts]),
        ripple=np.concatenate([part.ripple for part in parts]),
    )


def sum_squares(block: NDArray[np.int16]) -> NDArray[np.int64]:
    """Sum the squares of each channel of a block (samples, channels), exactly."""
    total: NDArray[np.int64] = np.einsum("tc,tc->c", block, block, dtype=np.int64, casting="safe")
    return total


def rms(block: NDArray[np.int16]) -> NDArray[np.float64]:
    """Root mean square of each channel of a block (samples, channels), in its units."""
    return np.sqrt(sum_squares(block) / len(block))


def band_power(
    block: NDArray[np.int16], rate_hz: float, band: tuple[float, float], *, window: int
) -> NDArray[np.float64]:
    """Mean square of each channel within a band of frequencies, window by window.

    The mean taken off and a Hann window put on, then the periodogram summed over the band, normalised by the
    window's energy: a sine of amplitude a within the band gives a**2 / 2 (Heinzel et al. 2002,
    https://hdl.handle.net/11858/00-001M-0000-0013-557A-5).

    Parameters
    ----------
    block
        (samples, channels).
    rate_hz
        Samples a second.
    band
        Lowest and highest frequency, Hz, both within.
    window
        Samples. Windows do not overlap; what is left at the end of the block is not used.

    Returns
    -------
    numpy.ndarray
        (windows, channels), the block's units squared.

    Raises
    ------
    ValueError
        If no frequency of the window's lies in the band.
    """
    frequencies = np.fft.rfftfreq(window, 1 / rate_hz)
    inside = slice(*np.searchsorted(frequencies, (band[0], np.nextafter(band[1], np.inf))))
    if inside.start == inside.stop:
        raise ValueError(f"a window of {window} samples has no frequency within {band[0]}-{band[1]} Hz")
    taper = np.hanning(window + 1)[:-1].astype(np.float32)  # periodic, as spectra want it
    scale = 2.0 / (window * np.sum(taper.astype(np.float64) ** 2))
    out = np.empty((len(block) // window, block.shape[1]))
    for number, row in enumerate(out):
        part = np.ascontiguousarray(block[number * window : (number + 1) * window].T, dtype=np.float32)
        part -= part.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        part *= taper
        spectrum = np.fft.rfft(part, axis=1)[:, inside]
        row[:] = scale * np.sum(np.square(np.abs(spectrum), dtype=np.float64), axis=1)
    return out
