"""What `lindi-dask demo` runs on: a session to write, an analysis to compute, a screen and a picture to draw.

Import its modules one by one: dask workers need `analysis` alone, which wants neither h5py nor matplotlib
nor rich.
"""

__all__: list[str] = []
