"""Soft links: where they lead, and how NWB-Zarr writes them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Links", "follow"]

_MAX_HOPS: Final = 40  # as many as operating systems take
_MAX_PATH: Final = 2**14  # characters: more than any link's own path has
_MAX_PARTS: Final = 128  # of a path: likewise


class Links:
    """The soft links of a reference file, while it is read."""

    def __init__(self) -> None:
        self._targets: dict[str, str] = {}

    def add(self, path: str, target: str) -> None:
        """Add a link at `path`; the target is absolute, or relative to the group that holds the link (as in HDF5)."""
        folder = "" if target.startswith("/") else path.rpartition("/")[0]
        parts: list[str] = [part for part in folder.split("/") if part]
        for part in target.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in {"", "."}:
                parts.append(part)
        self._targets[path] = "/".join(parts)

    def add_all(self, parent: str, links: object) -> list[dict[str, Any]]:
        """Add the `_LINKS` attribute of a group, or None; return those of them that lead into other files.

        Raises
        ------
        ValueError
            If it is not a list of objects with `name`, `path` and perhaps `source`.
        """
        if links is None:
            return []
        others: list[dict[str, Any]] = []
        if not isinstance(links, list):
            raise ValueError("its _LINKS is not a list")  # noqa: TRY004 - a value of the file
        for link in links:
            match link:
                case {"name": str(name), "path": str(path)} if name and "/" not in name:
                    if link.get("source", ".") == ".":
                        self.add(f"{parent}/{name}".lstrip("/"), path)
                    else:
                        others.append(link)
                case _:
                    raise ValueError(f"its link {link!r} has no name or path")
        return others

    def hidden(self, nodes: Mapping[str, Any]) -> str | None:
        """Return a path among those of nodes that can't be reached, as it lies at or below a link; None if all can."""
        for path in nodes if self._targets else ():
            above = path
            while above:
                if above in self._targets:
                    return path
                above = above.rpartition("/")[0]
        return None

    def resolved(self, nodes: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
        """Return where each link leads in the end, and why some lead nowhere; both by the link's path."""
        found: dict[str, str] = {}
        broken: dict[str, str] = {}
        for path, target in self._targets.items():
            end = follow(target, self._targets)
            if end is None:
                broken[path] = f"it is a soft link to /{target}, which leads in a circle"
            elif end not in nodes:
                broken[path] = f"it is a soft link to /{target}, where there is nothing"
            else:
                found[path] = end
        return found, broken

    def written(self, nodes: Mapping[str, dict[str, Any]], links: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """Return the nodes with `_LINKS` in the attributes of the groups that hold links, and references past links."""
        written = dict(nodes)
        if links:
            for path, node in nodes.items():
                written[path] = _without_links(node, links)
        for path, target in links.items():
            parent, _, name = path.rpartition("/")
            if parent not in written or "codecs" in written[parent]:
                continue
            attributes = written[parent]["attributes"]
            listed = [*attributes.get("_LINKS", []), {"name": name, "source": ".", "path": f"/{target}"}]
            written[parent] = {**written[parent], "attributes": {**attributes, "_LINKS": listed}}
        return written


def follow(path: str, links: Mapping[str, str]) -> str | None:
    """Return the path that `path` is the same as, past all links on its way; None if they lead in a circle."""
    for _ in range(_MAX_HOPS):
        if len(path) > _MAX_PATH:
            return path
        parts = path.split("/")
        for n in range(1, min(len(parts), _MAX_PARTS) + 1):
            target = links.get("/".join(parts[:n]))
            if target is not None:
                path = "/".join([*([target] if target else []), *parts[n:]])
                break
        else:
            return path
    return None


def _without_links(node: dict[str, Any], links: Mapping[str, str]) -> dict[str, Any]:
    """Return a node whose attributes refer to objects by their own paths, since readers look for them there."""
    changed = {}
    for name, value in node["attributes"].items():
        match value:
            case {"_REFERENCE": {"path": str(path)}}:
                end = follow(path.strip("/"), links)
                if end is not None and end != path.strip("/"):
                    changed[name] = {"_REFERENCE": {**value["_REFERENCE"], "path": f"/{end}"}}
    return {**node, "attributes": {**node["attributes"], **changed}} if changed else node
