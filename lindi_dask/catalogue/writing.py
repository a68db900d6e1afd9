"""The catalogue's two files. Each is there as a whole, or as it was before."""

from __future__ import annotations

import os
import uuid
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any, Final

from lindi_dask.catalogue.rows import kinds_of, rows_of, session_of
from lindi_dask.errors import ConfigurationError
from lindi_dask.listing import size_text
from lindi_dask.saving import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from lindi_dask.catalogue.rows import Session

    Json = dict[str, Any]

__all__ = ["check_catalogue", "write_catalogue"]

_TIMES: Final = "\N{MULTIPLICATION SIGN}"
_AT_ONCE: Final = 100  # assets whose rows are in memory together


def check_catalogue() -> None:
    """Raise `ConfigurationError` if there isn't what a catalogue is written with."""
    missing = None
    try:
        import_module("pyarrow.parquet")
        import_module("jinja2")
    except ModuleNotFoundError as error:
        missing = error.name
    if missing is not None:
        raise ConfigurationError(f'A catalogue needs {missing}: pip install "lindi-dask[batch]"')


def write_catalogue(
    table: Path, page: Path, address: str, cards: Iterable[Callable[[], Json]], failures: Mapping[str, str]
) -> None:
    """Write a table with a row an array (parquet), and a page (HTML) that needs nothing else.

    Parameters
    ----------
    table, page
        Files to write.
    address
        Of the dandiset.
    cards
        Each returns the card of an asset, with its `path`, `asset`, `size`, `references` and `arrays`.
    failures
        Why other assets are not in it, by path.

    Raises
    ------
    OSError
        If they can't be written.
    """
    sessions = _write_table(table, cards)
    write_file(page, [_page(address, sessions, failures).encode()])


def _write_table(table: Path, cards: Iterable[Callable[[], Json]]) -> list[Session]:
    pa: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    schema = _schema(pa)
    sessions: list[Session] = []
    rows: list[Json] = []
    temporary = table.with_name(f".{table.name}.{uuid.uuid4().hex[:12]}.part")
    try:
        with temporary.open("xb") as file:
            with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
                for number, read in enumerate(cards, 1):
                    card = read()
                    sessions.append(session_of(card))
                    rows += rows_of(card)
                    if number % _AT_ONCE == 0:
                        writer.write_table(pa.Table.from_pylist(rows, schema))
                        rows.clear()
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(table)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return sessions


def _schema(pa: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
    text, real, whole, extents = pa.string(), pa.float64(), pa.int64(), pa.list_(pa.int64())
    types = {
        **dict.fromkeys(("asset_path", "asset_id", "session", "session_start", "subject", "species", "path"), text),
        **dict.fromkeys(("neurodata_type", "parent_type"), text),
        "shape": extents,
        "dtype": text,
        "chunks": extents,
        "chunk_count": whole,
        "codec": text,
        "ratio": real,
        "unit": text,
        **dict.fromkeys(("rate_hz", "start_s", "duration_s"), real),
        "is_series": pa.bool_(),
        **dict.fromkeys(("nbytes", "stored_nbytes"), whole),
        "unreadable": text,
    }
    return pa.schema(list(types.items()))


# The page


def _page(address: str, sessions: list[Session], failures: Mapping[str, str]) -> str:
    jinja2: Any = import_module("jinja2")
    # All values come from strangers' files: they are escaped, each and every one
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(size=_size, span=_span, extents=_extents, number=_number)
    template = environment.from_string(
        resources.files("lindi_dask.catalogue").joinpath("page.html.jinja").read_text("utf-8")
    )
    page: str = template.render(
        address=address,
        sessions=sessions,
        failures=failures,
        kinds=kinds_of(sessions),
        subjects={session.subject for session in sessions} - {None},
        species=sorted({session.species for session in sessions if session.species is not None}),
        size=sum(session.size for session in sessions),
        nbytes=sum(session.nbytes for session in sessions),
        lasts_s=sum(session.lasts_s or 0.0 for session in sessions),
    )
    return page


def _size(nbytes: int | None) -> str:
    return "" if nbytes is None else size_text(nbytes)


def _span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _extents(shape: Iterable[int]) -> str:
    return f" {_TIMES} ".join(f"{extent:,}" for extent in shape) or "scalar"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
