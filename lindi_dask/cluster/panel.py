"""What a `Distribution` shows. Pure."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["panel"]

_SHOWN: Final = 10


def panel(status: dict[str, Any]) -> str:
    """Return `Distribution.status` as some lines of text."""
    if not status:
        return "<Distribution: closed>"
    keys = [name for name, found in status["instances"].items() if found is True]
    broken = [f"{name}: {found}" for name, found in status["instances"].items() if isinstance(found, str)]
    assets = sorted(status["assets"], key=lambda one: (-one["waiting"], one["asset"]))
    waits = status["waits"]
    took = "" if waits["median_ms"] is None else f", half of them within {waits['median_ms']:.1f} ms"
    late = "" if waits["p99_ms"] is None else f", 99 % within {waits['p99_ms']:.1f} ms"
    lines = [
        f"<Distribution: {status['exchanges']:,} exchanges for {len(assets):,} assets>",
        f"  keys       {', '.join(keys) or 'none in its environment'}",
        *(f"             {line}" for line in broken),
        f"  leases     {waits['asked']:,} handed out{took}{late}",
    ]
    if status["references"]:
        nbytes = sum(one["nbytes"] for one in status["references"])
        lines.append(f"  references {len(status['references'])} sent to workers ({nbytes / 1e6:,.1f} MB)")
    lines += [f"  {one['asset']}  {_state(one)}" for one in assets[:_SHOWN]]
    if len(assets) > _SHOWN:
        lines.append(f"  ... and {len(assets) - _SHOWN:,} more: see status()")
    return "\n".join(lines)


def _state(asset: dict[str, Any]) -> str:
    waiting = f", {asset['waiting']} waiting" if asset["waiting"] else ""
    if asset["age_s"] is None:
        return f"no lease: {asset['error']}" if asset["error"] else f"no lease yet{waiting}"
    left = asset["expires_in_s"]
    return f"lease {asset['age_s']:.0f} s old, {'expired' if left <= 0 else f'{left:.0f} s left'}{waiting}"
