"""Prints the reference file system of an HDF5 file, as LINDI makes it. Runs in an environment of LINDI's own.

    python write.py HDF5 URL

HDF5 is local; readers are to find it at URL.
"""

from __future__ import annotations

import json
import sys

import lindi  # type: ignore[import-not-found]

hdf5, url = sys.argv[1:]
every_chunk = lindi.LindiH5ZarrStoreOpts(num_dataset_chunks_threshold=None)
with lindi.LindiH5ZarrStore.from_file(hdf5, opts=every_chunk, url=url) as store:
    print(json.dumps(store.to_reference_file_system()))
