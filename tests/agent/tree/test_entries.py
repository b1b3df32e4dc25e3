"""The walk over sources: order, patterns, and all that cannot be sent."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree.entries import Item, Listing, Source
from agent.tree.errors import FileError
from agent.tree.options import SenderOptions
from agent.tree.paths import Folder, Links, identity
from agent.tree.sources import find_matches, find_source
from agent.wire.file_messages import Kind

List = Callable[..., list[Item]]


@pytest.fixture
def listing() -> Iterator[Callable[..., Listing]]:
    made: list[tuple[Listing, Source]] = []

    def make(source: Source, roots: object = None, links: Links = Links.OWNED, **options: object) -> Listing:
        one = Listing(iter([source]), SenderOptions(**options), links, roots)  # type: ignore[arg-type]
        made.append((one, source))
        return one

    yield make
    for one, source in made:
        one.close()
        if source.folder is not None:
            source.folder.release()


def found(listing: Listing) -> list[tuple[str, str]]:
    return [(item.entry.path, item.entry.kind.value) for item in listing.items()]


def matches(path: Path | str) -> Source:
    return find_matches(str(path), home="/", links=Links.OWNED, roots=None)


@pytest.fixture
def tree(source: Path) -> Path:
    for name in ("alice/x.log", "bob/x.log", "bob/y.log", "carol/z", ".hidden/x.log"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"1")
    (source / "file.log").touch()
    (source / "link").symlink_to("alice")
    return source


def test_the_order(listing: Callable[..., Listing], tree: Path) -> None:
    assert found(listing(matches(tree / "bob"))) == [
        ("bob", "directory"),
        ("bob/x.log", "file"),
        ("bob/y.log", "file"),
        ("bob", "leave"),
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.log", [("file.log", "file")]),
        (
            "*/x.log",
            [
                ("alice", "directory"),
                ("alice/x.log", "file"),
                ("alice", "leave"),
                ("bob", "directory"),
                ("bob/x.log", "file"),
                ("bob", "leave"),
            ],
        ),
        ("[c]*", [("carol", "directory"), ("carol/z", "file"), ("carol", "leave")]),
        ("*/z", [("carol", "directory"), ("carol/z", "file"), ("carol", "leave")]),
        ("c*/?", [("carol", "directory"), ("carol/z", "file"), ("carol", "leave")]),
        ("li*", [("link", "symlink")]),
        ("*.none", [("*.none", "failed")]),
        ("*/none", [("*/none", "failed")]),
        ("none/*", [("*", "failed")]),
        ("file.log/*", [("*", "failed")]),
        ("*" * 300, [("*" * 300, "failed")]),
    ],
)
def test_patterns(listing: Callable[..., Listing], tree: Path, pattern: str, expected: list[tuple[str, str]]) -> None:
    found_ = found(listing(matches(tree / pattern)))
    if pattern == "*" * 300:
        assert found_[-1] != expected[0]  # stars are stars, however many
    else:
        assert found_ == expected


def test_a_directory_on_the_way_is_not_said_to_be_complete(listing: Callable[..., Listing], tree: Path) -> None:
    leaves = [item.entry for item in listing(matches(tree / "*/x.log")).items() if item.entry.kind is Kind.LEAVE]
    assert [leave.complete for leave in leaves] == [False, False]


def test_a_name_that_looks_like_a_pattern(listing: Callable[..., Listing], tree: Path) -> None:
    (tree / "a[1].log").touch()
    (tree / "a1.log").touch()
    assert found(listing(matches(tree / "a[1].log"))) == [("a[1].log", "file")]


def test_links_on_the_way_of_a_pattern(listing: Callable[..., Listing], tree: Path) -> None:
    assert ("link/x.log", "file") not in found(listing(matches(tree / "*/x.log")))
    assert ("link/x.log", "file") in found(listing(matches(tree / "*/x.log"), follow=True))


def test_what_a_listing_finds_can_be_opened(listing: Callable[..., Listing], tree: Path) -> None:
    for options in ({}, {"follow": True}):
        one = listing(matches(tree), **options)
        for item in one.items():
            if item.entry.kind is Kind.FILE:
                fd = one.open(item)
                assert os.readlink(f"/proc/self/fd/{fd}").startswith(str(tree))
                os.close(fd)


def test_several_sources(tree: Path) -> None:
    sources = [matches(tree / name) for name in ("alice", "bob", "none")]
    one = Listing(iter(sources), SenderOptions())
    items = list(one.items())
    assert [item.entry.path for item in items if item.entry.kind is Kind.FILE] == [
        "alice/x.log",
        "bob/x.log",
        "bob/y.log",
    ]
    for item in reversed([item for item in items if item.entry.kind is Kind.FILE]):
        os.close(one.open(item))
    one.close()
    for source in sources:
        assert source.folder is not None
        source.folder.release()


CLASH = "another of that name was asked for, too, and both would go to one place"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (
            ["file.log", "*"],
            ["file.log", "alice", "alice/x.log", "bob", "bob/x.log", "bob/y.log", "carol", "carol/z", "link"],
        ),
        (["bob", "b*"], ["bob", "bob/x.log", "bob/y.log"]),
        (["b*", "bob"], ["bob", "bob/x.log", "bob/y.log"]),
        (["f*", "*.log", "file.log"], ["file.log"]),
        (["*/x.log", "*/y.log"], ["alice", "alice/x.log", "bob", "bob/x.log", "bob/y.log"]),
        (["*/x.log", "b*"], ["alice", "alice/x.log", "bob", "bob/x.log", "bob/y.log"]),
        (["b*", "*/x.log"], ["bob", "bob/x.log", "bob/y.log", "alice", "alice/x.log"]),
        (["b*", "b*/x.log"], ["bob", "bob/x.log", "bob/y.log"]),
    ],
)
def test_what_several_patterns_name_comes_once(tree: Path, patterns: list[str], expected: list[str]) -> None:
    sources = [matches(tree / pattern) for pattern in patterns]
    one = Listing(iter(sources), SenderOptions(max_files=100))
    items = list(one.items())
    paths = [item.entry.path for item in items if item.entry.kind is not Kind.LEAVE]
    assert paths == expected
    assert not [item for item in items if item.entry.kind is Kind.FAILED]
    inside: list[str] = []
    for item in items:  # a receiver breaks off whoever leaves what he has not entered
        if item.entry.kind is Kind.DIRECTORY:
            inside.append(item.entry.path)
        elif item.entry.kind is Kind.LEAVE:
            assert inside.pop() == item.entry.path
    assert inside == []
    for source in sources:
        assert source.folder is not None
        source.folder.release()


@pytest.mark.parametrize(
    ("patterns", "path"),
    [
        (["alice/*.log", "bob/*.log"], "x.log"),
        (["bob/*.log", "alice/x*"], "x.log"),
        (["*/x.log", "other/*"], "bob/x.log"),
        (["other/*", "*/x.log"], "bob"),
    ],
)
def test_different_files_of_one_name(tree: Path, patterns: list[str], path: str) -> None:
    """The second would silently take the place of the first."""
    (tree / "other/bob").mkdir(parents=True)
    (tree / "other/bob/x.log").touch()
    (tree / "other/bob/only-here").touch()
    sources = [matches(tree / pattern) for pattern in patterns]
    items = list(Listing(iter(sources), SenderOptions()).items())
    assert [(item.entry.path, item.entry.reason) for item in items if item.entry.kind is Kind.FAILED] == [(path, CLASH)]
    paths = [item.entry.path for item in items if item.entry.kind is Kind.FILE]
    assert len(paths) == len(set(paths))
    for source in sources:
        assert source.folder is not None
        source.folder.release()


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("change", ["vanished", "fifo", "directory gone"])
def test_changed_before_it_is_opened(listing: Callable[..., Listing], tree: Path, change: str, follow: bool) -> None:
    one = listing(matches(tree / "carol"), follow=follow)
    (item,) = [item for item in one.items() if item.entry.kind is Kind.FILE]
    (tree / "carol/z").unlink()
    if change == "fifo":
        os.mkfifo(tree / "carol/z")
    elif change == "directory gone":
        (tree / "carol").rmdir()
    with pytest.raises(FileError) as caught:
        one.open(item)
    expected = {"fifo": "is a FIFO now"}.get(
        change, "vanished" if follow else "cannot read it: no such file or directory"
    )
    assert str(caught.value) == expected


def test_a_link_to_a_directory_among_the_names(listing: Callable[..., Listing], tree: Path) -> None:
    assert found(listing(matches(tree / "link"))) == [("link", "symlink")]
    assert found(listing(find_source(f"{tree}/link/", home="/", links=Links.OWNED)))[0] == ("link", "directory")
    assert found(listing(matches(f"{tree}/link/")))[0] == ("link", "directory")
    assert found(listing(matches(tree / "link"), follow=True))[0] == ("link", "directory")


@pytest.mark.parametrize(
    ("path", "name", "reason"),
    [
        ("none/x", "x", "cannot enter {}/none: no such file or directory"),
        ("none/", "none", "cannot enter {}/none: no such file or directory"),
        ("file.log/", "file.log", "cannot enter {}/file.log: not a directory"),
    ],
)
def test_sources_that_are_not_there(
    listing: Callable[..., Listing], tree: Path, path: str, name: str, reason: str
) -> None:
    source = find_source(f"{tree}/{path}", home="/", links=Links.ALWAYS)
    (item,) = listing(source).items()
    assert (item.entry.path, item.entry.kind, item.entry.reason) == (name, Kind.FAILED, reason.format(tree))


def test_sources_without_a_name(listing: Callable[..., Listing], tree: Path) -> None:
    for path in (f"{tree}/carol/.", f"{tree}/carol/../carol/.", f"{tree}/carol/."):
        assert found(listing(find_source(path, home="/", links=Links.ALWAYS))) == [
            (".", "directory"),
            ("z", "file"),
            (".", "leave"),
        ]
    assert find_source("none/..", home=str(tree), links=Links.ALWAYS).path == "."


def fail_on(monkeypatch: pytest.MonkeyPatch, call: str, name: str, number: int) -> None:
    real = getattr(os, call)

    def failing(path: object, *rest: object, **options: object) -> object:
        if path == name:
            raise OSError(number, os.strerror(number))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, call, failing)


def test_a_directory_that_may_not_be_entered(
    listing: Callable[..., Listing], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on(monkeypatch, "open", "bob", errno.EACCES)
    items = list(listing(matches(tree)).items())
    (bob,) = [item.entry for item in items if item.entry.path.endswith("bob")]
    assert (bob.kind, bob.reason) == (Kind.FAILED, "cannot enter the directory: permission denied")
    assert not items[-1].entry.complete  # nobody may take what is in it for deleted
    (item,) = listing(matches(tree / "bo?/x.log")).items()
    assert item.entry.reason == f"cannot enter {tree}/bob: permission denied"
    assert ("bob/x.log", "file") not in found(listing(matches(tree / "*/x.log")))


def test_a_directory_that_may_not_be_listed(
    listing: Callable[..., Listing], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(folder: Folder) -> list[str]:
        raise FileError("list the directory", "permission denied")

    monkeypatch.setattr(Folder, "names", names)
    (item,) = listing(matches(tree)).items()
    assert item.entry.reason == "cannot list the directory: permission denied"
    (item,) = listing(matches(tree / "*.log")).items()
    assert item.entry.reason == "no such file or directory"


@pytest.fixture
def forbidden(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make calls in one directory fail, as they do for who may not read it (root always may)."""

    def forbid(name: str, number: int, *calls: str) -> None:
        path = str(tree / name) if name else str(tree)
        for call in calls:
            real = getattr(os, call)

            def failing(first: object, *rest: object, _real: Callable[..., object] = real, **options: object) -> object:
                folder = options.get("dir_fd", first)
                if isinstance(folder, int) and os.readlink(f"/proc/self/fd/{folder}") == path:
                    raise OSError(number, "")
                return _real(first, *rest, **options)

            monkeypatch.setattr(os, call, failing)

    yield forbid
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("directory", "calls", "pattern", "reason"),
    [
        ("", ("listdir",), "*.log", "cannot look into {}: permission denied"),
        ("", ("listdir",), "*/x.log", "cannot look into {}: permission denied"),
        ("bob", ("stat",), "bo*/y.log", "cannot look into {}/bob: permission denied"),
    ],
)
def test_a_pattern_where_nothing_may_be_read(
    listing: Callable[..., Listing],
    tree: Path,
    forbidden: Callable[..., None],
    directory: str,
    calls: tuple[str, ...],
    pattern: str,
    reason: str,
) -> None:
    """Nothing is found, which must not be said to mean that nothing is there."""
    one = listing(matches(tree / pattern))
    forbidden(directory, errno.EACCES, *calls)
    ((item),) = one.items()
    assert (item.entry.kind, item.entry.reason) == (Kind.FAILED, reason.format(tree))


def test_a_pattern_that_finds_something_elsewhere(
    listing: Callable[..., Listing], tree: Path, forbidden: Callable[..., None]
) -> None:
    one = listing(matches(tree / "*/x.log"))
    forbidden("bob", errno.EACCES, "stat")
    assert [path for path, _ in found(one)] == ["alice", "alice/x.log", "alice"]


def test_a_pattern_that_finds_nothing_for_another_reason(
    listing: Callable[..., Listing], tree: Path, forbidden: Callable[..., None]
) -> None:
    one = listing(matches(tree / "*.log"))
    forbidden("", errno.EIO, "listdir")
    assert [item.entry.reason for item in one.items()] == ["no such file or directory"]


def test_a_link_that_cannot_be_read(
    listing: Callable[..., Listing], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on(monkeypatch, "readlink", "link", errno.EIO)
    (item,) = listing(matches(tree / "link")).items()
    assert item.entry.reason == "cannot read the link: input/output error"
    (item,) = listing(matches(tree / "link"), follow=True).items()
    assert item.entry.reason == "cannot follow the link: input/output error"


def test_a_name_that_vanishes_while_it_is_listed(listing: Callable[..., Listing], tree: Path) -> None:
    one = listing(matches(tree / "bob")).items()
    assert next(one).entry.path == "bob"
    (tree / "bob/x.log").unlink()
    assert next(one).entry.reason == "vanished while it was listed"


def test_names_with_control_characters(listing: Callable[..., Listing], tree: Path) -> None:
    (tree / "carol/a\nb").touch()
    kinds = dict(found(listing(matches(tree / "carol"))))
    assert kinds["carol/a\nb"] == "failed"
    assert kinds["carol/z"] == "file"


def test_a_path_that_is_too_long(listing: Callable[..., Listing], source: Path) -> None:
    here = os.open(source, os.O_RDONLY)
    for _ in range(21):
        os.mkdir("x" * 200, dir_fd=here)
        inner = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    failed = [item.entry for item in listing(matches(source)).items() if item.entry.kind is Kind.FAILED]
    shutil.rmtree(source)  # by descriptors: nobody can name what is in it
    assert [entry.reason for entry in failed] == ["path of 4227 characters, expected no more than 4096"]
    assert failed[0].path.count("/") == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links of others")
def test_followed_links_of_others(listing: Callable[..., Listing], tree: Path) -> None:
    (tree / "carol/secret").symlink_to("../alice/x.log")
    os.lchown(tree / "carol/secret", 61_234, 61_234)
    entries = {item.entry.path: item.entry for item in listing(matches(tree / "carol"), follow=True).items()}
    assert entries["carol/secret"].reason == "is a link of user 61234 to what belongs to somebody else"
    os.chown(tree / "alice/x.log", 61_234, 61_234)
    assert ("carol/secret", "file") in found(listing(matches(tree / "carol"), follow=True))


def test_a_root_by_its_own_name(tree: Path) -> None:
    root = identity(str(tree))
    assert root is not None
    source = find_matches(str(tree), home="/", links=Links.OWNED, roots=[root])
    assert source.names == ()  # the open directory, whatever happens to its name from now on
    assert source.folder is not None
    source.folder.release()
    for path in (tree.parent, tree.parent / "*", tree.parent / "none", tree.parent / "none/x"):
        with pytest.raises(PermissionError):
            find_matches(str(path), home="/", links=Links.OWNED, roots=[root])
