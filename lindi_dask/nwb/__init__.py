"""What NWB means by its groups: time series with their times and channels, tables with their rows."""

from lindi_dask.nwb.opening import NwbWarning, Opening
from lindi_dask.nwb.ragged import ragged_row, spike_times
from lindi_dask.nwb.session import open_groups
from lindi_dask.nwb.time_index import SampledTimes, TimeIndex

__all__ = ["NwbWarning", "Opening", "SampledTimes", "TimeIndex", "open_groups", "ragged_row", "spike_times"]
