"""`lindi-dask info`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

import click

from lindi_dask.cli.options import access_options
from lindi_dask.cli.terminal import draw, filled, plain, this_look
from lindi_dask.cli.wording import cells_of, counted, details_of, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lindi_dask.cli.terminal import Look, Span
    from lindi_dask.listing import ArrayRow
    from lindi_dask.session_card import Recording, SessionCard

__all__ = ["info"]

_LABEL: Final = 14  # columns of what a line is about
_MIN_COLUMNS: Final = 24  # of the text beside it, however narrow the terminal
_INDENT: Final = 4  # of what is said of a time series, a table, a file
_LARGEST: Final = 10  # arrays of a file that has no time series
_MOST_UNREADABLE: Final = 5

# \b keeps click from filling the lines up
_EXAMPLES = """\b
Examples:
  lindi-dask info session.lindi.json
  lindi-dask info --offline session.lindi.json
  lindi-dask info session.lindi.json --json | jq .facts.species
"""


@click.command(epilog=_EXAMPLES)
@click.argument("refs")
@click.option("--offline", is_flag=True, help="Ask no archive, and show only what REFS and local files hold.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@access_options
def info(
    *,
    refs: str,
    offline: bool,
    as_json: bool,
    instances: dict[str, str] | None,
    allow: tuple[str, ...] | None,
) -> None:
    """Show what REFS are of: who recorded what, when, how it is stored, and whether it is embargoed.

    REFS is a reference file, a bundle or a folder of parquet files, as for `lindi-dask ls`, of an NWB session or of
    anything else. The archive is asked whether the files behind it may be read: first without a key, then with yours.
    Values that REFS leave to these files (short texts, the ends of timestamps) are read from there.
    """
    from lindi_dask.describing import describe  # noqa: PLC0415 - only this command needs it
    from lindi_dask.factory import StoreFactory  # noqa: PLC0415
    from lindi_dask.session_card import card_as_json  # noqa: PLC0415

    factory = StoreFactory(refs, instances=instances, allow=allow)
    card = describe(factory, offline=offline, remote=factory.is_remote)
    if as_json:
        about = {"refs": factory.name, "fingerprint": factory.fingerprint}
        click.echo(json.dumps({**about, **card_as_json(card)}))
        return
    look = this_look()
    draw(_lines(plain(factory.name), card, look), look)


# The card


def _lines(name: str, card: SessionCard, look: Look) -> Iterator[list[Span]]:
    """Yield the lines of a card."""
    kind = "not NWB" if card.nwb_version is None else f"NWB {plain(card.nwb_version)}"
    yield [(name, "group"), (f"  {kind}", "type")]
    yield []
    for label, text, style in _about(card):
        yield from _labelled(label, text, style, look)
    if card.recordings:
        yield from _headed("Time series")
        for recording in card.recordings:
            yield from _entry(recording.path, recording.neurodata_type, look, [_when(recording)], recording.data)
    elif card.arrays:
        largest = sorted(card.arrays, key=lambda array: -(array.nbytes or 0))[:_LARGEST]
        yield from _headed("Arrays" if len(largest) == len(card.arrays) else f"The {len(largest)} largest arrays")
        for array in largest:
            yield from _entry(array.path, array.neurodata_type, look, [], array)
    if card.tables:
        yield from _headed("Tables")
        for table in card.tables:
            columns = [f"{column}," for column in table.columns[:-1]] + list(table.columns[-1:])
            rows = f"{counted(table.rows, 'row') or 'no rows'}{':' if columns else ''}"
            yield from _entry(table.path, table.neurodata_type, look, [" ".join([rows, *map(plain, columns)])], None)
    yield from _files(card, look)
    yield from _unreadable(card, look)
    yield []
    yield [(_totals(card), "dim")]


def _about(card: SessionCard) -> Iterator[tuple[str, str, str]]:
    """Yield what is known of the whole: labels, texts and their styles."""
    facts = {fact.name: plain(" ".join("; ".join(fact.values).split())) for fact in card.facts}

    def joined(*names: str) -> str:
        return ", ".join(facts[name] for name in names if facts.get(name))

    lasts = f"lasting {_duration(card.lasts_s)}" if card.lasts_s else ""
    texts = {
        "Title": joined("title"),
        "Description": joined("session_description"),
        "Experiment": joined("experiment_description"),
        "Summary": joined("summary"),
        "When": ", ".join(filter(None, (joined("session_start_time").replace("T", " "), lasts))),
        "Who": joined("experimenter"),
        "Where": joined("lab", "institution"),
        "Subject": joined("subject_id", "species", "strain", "genotype", "sex", "age", "weight"),
        "Born": joined("date_of_birth"),
        "Devices": ", ".join(map(plain, card.devices)),
        "Keywords": joined("keywords"),
        "Identifier": joined("session_id", "identifier"),
        "Source": joined("source"),
        "History": joined("history"),
        "Conventions": joined("Conventions"),
    }
    for label, text in texts.items():
        if text:
            yield label, text, ""
    for fact in card.facts:
        if fact.unreadable is not None:
            yield fact.name, f"can't be read: {plain(fact.unreadable)}", "bad"


def _when(recording: Recording) -> str:
    """Return when the samples of a time series are."""
    rate = "unknown rate" if recording.rate is None else f"{recording.rate:.6g} Hz"
    if not recording.regular:
        rate = "timestamps" if recording.rate is None else f"timestamps, {rate} on average"
    lasts = f" for {_duration(recording.lasts_s)}" if recording.lasts_s else ""
    starts = f", from {recording.starts_s:.6g} s" if recording.starts_s else ""
    return f"{rate}{lasts}{starts}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def _stored(array: ArrayRow, look: Look) -> list[str]:
    """Return what an array is and how it is stored, in pieces."""
    pieces = [cell for cell in cells_of(array, look) if cell]
    return [
        *pieces,
        *(details_of(array, look, each=True) if array.unreadable is None else ["can't be read: see below"]),
    ]


def _files(card: SessionCard, look: Look) -> Iterator[list[Span]]:
    """Yield which files the chunks lie in, and whether they may be read."""
    if card.sources:
        yield from _headed("Files")
    for source in card.sources:
        yield [(f"  {plain(source.name)}", ""), (f"  {source.access}", "type" if source.reason is None else "bad")]
        if source.reason is not None:
            yield from _wrapped(plain(source.reason).split(" "), " ", "bad", look)
    if card.more_sources:
        yield [(f"  {look.dots} and {card.more_sources:,} more, not asked for", "dim")]


def _unreadable(card: SessionCard, look: Look) -> Iterator[list[Span]]:
    """Yield what can't be read."""
    if card.unreadable:
        yield from _headed("Can't be read")
    for path, reason in card.unreadable[:_MOST_UNREADABLE]:
        yield [(f"  {plain(path) or '/'}", "bad")]
        yield from _wrapped(plain(reason).split(" "), " ", "dim", look)
    if len(card.unreadable) > _MOST_UNREADABLE:
        yield [(f"  {look.dots} and {len(card.unreadable) - _MOST_UNREADABLE:,} more: see lindi-dask ls", "dim")]


def _totals(card: SessionCard) -> str:
    parts = [counted(card.groups, "group"), counted(len(card.arrays), "array"), counted(card.links, "soft link")]
    stored = f"{size_text(card.nbytes)} of numbers, stored in {size_text(card.stored_nbytes)}"
    return ", ".join(part for part in [*parts, stored] if part)


# Lines


def _headed(title: str) -> Iterator[list[Span]]:
    yield []
    yield [(title, "group")]


def _entry(
    path: str, neurodata_type: str | None, look: Look, texts: Sequence[str], array: ArrayRow | None
) -> Iterator[list[Span]]:
    title: list[Span] = [(f"  {plain(path) or '/'}", "")]
    yield [*title, (f"  {plain(neurodata_type)}", "type")] if neurodata_type else title
    for text in texts:
        yield from _wrapped(text.split(" "), " ", "", look)
    if array is not None:
        yield from _wrapped(_stored(array, look), "  ", "dim", look)


def _wrapped(pieces: Sequence[str], gap: str, style: str, look: Look) -> Iterator[list[Span]]:
    for line in filled(pieces, gap, _room(look, _INDENT)):
        yield [(" " * _INDENT, ""), (line, style)]


def _labelled(label: str, text: str, style: str, look: Look) -> Iterator[list[Span]]:
    words = [word for word in text.split(" ") if word]
    for number, line in enumerate(filled(words, " ", _room(look, _LABEL))):
        yield [(f"{'' if number else plain(label):{_LABEL}}", "dim"), (line, style)]


def _room(look: Look, indent: int) -> int:
    return sys.maxsize if look.width is None else max(look.width - indent, _MIN_COLUMNS)
