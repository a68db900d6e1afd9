"""Which types NWB has, what they are made of, and what their dimensions are called. Pure.

After the NWB schema 2.9 (https://nwb-schema.readthedocs.io) and hdmf-common 1.8 (https://hdmf-common-schema.readthedocs.io).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ROWS", "SERIES", "TABLE", "data_dims", "defined_types", "is_known", "lineage"]

SERIES: Final = "TimeSeries"
TABLE: Final = "DynamicTable"

_CHILDREN: Final = {
    SERIES: (
        "AbstractFeatureSeries AnnotationSeries IntervalSeries SpatialSeries ElectricalSeries PatchClampSeries "
        "ImageSeries IndexSeries OptogeneticSeries DecompositionSeries RoiResponseSeries"
    ),
    "ElectricalSeries": "SpikeEventSeries",
    "ImageSeries": "ImageMaskSeries OpticalSeries TwoPhotonSeries OnePhotonSeries",
    "PatchClampSeries": ("CurrentClampSeries CurrentClampStimulusSeries VoltageClampSeries VoltageClampStimulusSeries"),
    "CurrentClampSeries": "IZeroClampSeries",
    TABLE: (
        "Units TimeIntervals PlaneSegmentation ElectrodesTable AlignedDynamicTable SweepTable FrequencyBandsTable "
        "IntracellularElectrodesTable IntracellularStimuliTable IntracellularResponsesTable "
        "SimultaneousRecordingsTable SequentialRecordingsTable RepetitionsTable ExperimentalConditionsTable"
    ),
    "AlignedDynamicTable": "IntracellularRecordingsTable",
    "VectorData": "VectorIndex EnumData DynamicTableRegion TimeSeriesReferenceVectorData",
}
_PARENT: Final = {child: parent for parent, children in _CHILDREN.items() for child in children.split()}

ROWS: Final = {"Units": "unit", "PlaneSegmentation": "roi", "ElectrodesTable": "electrode", "TimeIntervals": "interval"}
"""what a row of a table is; of others: `row`"""

_DATA: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "SpikeEventSeries": (("time", "sample"), ("time", "channel", "sample")),
    "ElectricalSeries": (("time",), ("time", "channel"), ("time", "channel", "sample")),
    "DecompositionSeries": (("time", "channel", "band"),),
    "RoiResponseSeries": (("time",), ("time", "roi")),
    "OpticalSeries": (("time", "x", "y"), ("time", "x", "y", "rgb")),
    "ImageSeries": (("time", "x", "y"), ("time", "x", "y", "z")),
    SERIES: (("time",), ("time", "feature")),
}


def lineage(kind: str, defined: Mapping[str, str]) -> list[str]:
    """Return a type and all that it is made from, the nearest first.

    Parameters
    ----------
    kind
        Name of the type.
    defined
        Of types that a file itself defines: name -> name of what it is made from.
    """
    line: list[str] = []
    while kind and kind not in line:
        line.append(kind)
        kind = _PARENT.get(kind) or defined.get(kind, "")
    return line


def is_known(kind: str) -> bool:
    """Return whether a type is one of NWB's own that matter here."""
    return kind in _PARENT or kind in _CHILDREN


def data_dims(line: Iterable[str], ndim: int) -> tuple[str, ...]:
    """Return the names of the dimensions of a time series' data; `line` is the `lineage` of its type."""
    for kind in line:
        for dims in _DATA.get(kind, ()):
            if len(dims) == ndim:
                return dims
    return ("time", *(f"dim_{axis}" for axis in range(1, ndim)))[:ndim]


def defined_types(specification: str) -> dict[str, str]:
    """Return the types that a cached specification defines: name -> name of what it is made from.

    Raises
    ------
    ValueError
        If it is not JSON.
    """
    found: dict[str, str] = {}
    waiting: list[Any] = [json.loads(specification)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            name, base = (one.get(f"neurodata_type_{end}", one.get(f"data_type_{end}")) for end in ("def", "inc"))
            if isinstance(name, str) and isinstance(base, str):
                found[name] = base
            waiting += [one[part] for part in ("groups", "datasets") if part in one]
    return found
