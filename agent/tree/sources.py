"""From the paths that an operator wrote to sources to be listed: where they are, and what the transfer calls them."""

from __future__ import annotations

import os
from collections.abc import Collection

from agent.tree.entries import Source
from agent.tree.errors import FileError
from agent.tree.paths import Folder, Identity, Links, is_within, open_path
from agent.tree.patterns import is_pattern
from agent.wire.file_messages import TOP

__all__ = ["find_matches", "find_source"]


def find_source(path: str, *, home: str, links: Links) -> Source:
    """Find one source, taken by the letter. The caller releases its folder.

    A link at the end is sent as a link; with a slash behind it, it is the directory that it points at. `DIR/.` is what
    is in the directory, without a name of its own. What is not there is a source with a reason.
    """
    name = path.rstrip("/").rpartition("/")[2]
    try:
        if path.endswith("/") or name in ("", ".", ".."):
            folder, rest = open_path(path.rstrip("/") + "/", home=home, links=links)
            assert not rest
            return Source(folder, (), TOP if name in ("", ".", "..") else name)
        folder = _folder_above(path, home, links)
    except FileError as error:
        return Source(None, (), TOP if name in ("", ".", "..") else name, str(error))
    return Source(folder, (name,), name)


def find_matches(path: str, *, home: str, links: Links, roots: Collection[Identity] | None) -> Source:
    """Find what a path with patterns stands for. The caller releases its folder.

    It is called by its last name, or by all names from the first pattern on (`places.pull_names`). With roots, it must
    lie in one of them. A name that is there by the letter is not taken for a pattern.

    Raises PermissionError for what is outside of the roots, and ValueError for a path without a name at its end.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    first = next((place for place, name in enumerate(names) if is_pattern(name)), len(names) - 1)
    if not names or ".." in names[first:]:
        raise ValueError(f"no name at the end of {path!r}")
    asked = tuple(names[first:])
    above = "/" * path.startswith("/") + "/".join(names[:first])
    try:
        if path.endswith("/") and len(asked) == 1 and not is_pattern(asked[0]):
            folder, _ = open_path(path, home=home, links=links)
            source = Source(folder, (), asked[0])
        else:
            folder = _folder_above(os.path.join(above, "x"), home, links)
            source = Source(folder, asked, "/".join(asked))
    except FileError as error:
        if roots is not None:
            # Whether something is there, outside, is nobody's business who may not read there.
            raise PermissionError(path) from None
        return Source(None, (), "/".join(asked), str(error))
    if roots is None:
        return source
    try:
        return _within(source, folder, roots, path)
    except BaseException:
        folder.release()
        raise


def _folder_above(path: str, home: str, links: Links) -> Folder:
    folder, rest = open_path((os.path.dirname(path) or ".") + "/", home=home, links=links)
    assert not rest
    return folder


def _within(source: Source, folder: Folder, roots: Collection[Identity], path: str) -> Source:
    """Return the source if it lies in the roots, or is one. Raises PermissionError, and OSError."""
    if is_within(folder, roots):
        return source
    if len(source.names) == 1:
        try:
            root = folder.enter(source.names[0])
        except OSError:
            raise PermissionError(path) from None
        if is_within(root, roots):
            folder.release()
            # From here on the open directory is the source, whatever happens to the name.
            return Source(root, (), source.path)
        root.release()
    raise PermissionError(path)
