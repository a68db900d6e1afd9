import pickle

import numpy as np
import pytest
from numpy.typing import NDArray

from lindi_dask.demo import analysis

RATE = 1000.0


def sine(frequency: float, amplitude: float, samples: int = 4000) -> NDArray[np.int16]:
    wave = amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE + 0.3)
    return np.stack([np.rint(wave), np.full(samples, 500), np.zeros(samples)], axis=1).astype(np.int16)


@pytest.fixture
def noise() -> NDArray[np.int16]:
    return np.random.default_rng(3).integers(-32768, 32768, (4 * analysis.THETA_WINDOW + 77, 3)).astype(np.int16)


@pytest.mark.parametrize("amplitude", [2000, 30_000])
@pytest.mark.parametrize("frequency", [8.0, 10.0, 50.0])
def test_a_sine_within_the_band_has_half_its_amplitude_squared(frequency: float, amplitude: float) -> None:
    block = sine(frequency, amplitude)  # whole periods in a window of 1,000: bins of 1 Hz
    power = analysis.band_power(block, RATE, (frequency - 2, frequency + 2), window=1000)
    assert power.shape == (4, 3)
    np.testing.assert_allclose(power[:, 0], amplitude**2 / 2, rtol=1e-3)
    np.testing.assert_allclose(power[:, 1:], 0, atol=1e-6)  # a constant has none, whatever its size


def test_a_sine_outside_the_band_has_next_to_none() -> None:
    power = analysis.band_power(sine(40.0, 1000), RATE, (5, 11), window=1000)
    assert power.max() < 1


def test_the_bins_at_a_bands_ends_are_in_it() -> None:
    whole = analysis.band_power(sine(8.0, 1000), RATE, (7, 9), window=1000)
    np.testing.assert_allclose(whole[:, 0], 1000**2 / 2, rtol=1e-3)  # a Hann window spreads over 3 bins
    centre = analysis.band_power(sine(8.0, 1000), RATE, (8, 8), window=1000)
    np.testing.assert_allclose(centre / whole[:, :1], [[2 / 3, 0, 0]] * 4, atol=1e-3)  # 1/6, 2/3, 1/6


@pytest.mark.parametrize(("samples", "windows"), [(0, 0), (999, 0), (1000, 1), (2999, 2)])
def test_what_is_left_behind_the_last_window_is_not_used(samples: int, windows: int) -> None:
    assert analysis.band_power(sine(8, 100, samples), RATE, (5, 11), window=1000).shape == (windows, 3)


def test_a_band_between_two_bins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no frequency within 5\.1-5\.9 Hz"):
        analysis.band_power(sine(8, 100), RATE, (5.1, 5.9), window=1000)


def test_rms_is_exact_at_full_scale() -> None:
    block = np.full((100_000, 2), -32768, np.int16)
    assert analysis.sum_squares(block).tolist() == [100_000 * 2**30] * 2
    assert analysis.rms(block).tolist() == [32768.0, 32768.0]


def test_a_copy_in_another_order_of_memory_gives_the_same_bits(noise: NDArray[np.int16]) -> None:
    expected = analysis.combine([analysis.summarise(noise, 30_000.0)])
    for other in (np.asfortranarray(noise), noise.astype(">i2"), np.repeat(noise, 2, axis=1)[:, ::2]):
        assert expected.equals(analysis.combine([analysis.summarise(other, 30_000.0)]))


def test_blocks_of_whole_windows_come_together_as_one(noise: NDArray[np.int16]) -> None:
    whole = analysis.combine([analysis.summarise(noise, 30_000.0)])
    size = 2 * analysis.THETA_WINDOW
    blocks = [noise[start : start + size] for start in range(0, len(noise), size)]
    parts = pickle.loads(pickle.dumps([analysis.summarise(block, 30_000.0) for block in blocks]))
    assert whole.theta.shape == (4, 3)
    assert whole.ripple.shape == (32, 3)
    assert whole.equals(analysis.combine(parts))
    np.testing.assert_array_equal(whole.rms, np.sqrt(np.mean(noise.astype(object) ** 2, axis=0).astype(float)))


def test_one_count_more_is_another_result(noise: NDArray[np.int16]) -> None:
    whole = analysis.combine([analysis.summarise(noise, 30_000.0)])
    noise[5, 1] ^= 1
    assert not whole.equals(analysis.combine([analysis.summarise(noise, 30_000.0)]))


def test_no_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="no block"):
        analysis.combine([])
