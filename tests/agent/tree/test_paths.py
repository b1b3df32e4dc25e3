"""Walking: which links are followed, where one may be, and that nothing is left open."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.tree.errors import FileError
from agent.tree.paths import Cursor, Folder, Links, check_name, identity, is_within, kind_of, open_path, walk

NOBODY = 61_234


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory with a/b/f, and links."""
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/f").write_bytes(b"f")
    (tmp_path / "to_a").symlink_to("a")
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "a/up").symlink_to("../a/b")
    (tmp_path / "chain").symlink_to("to_a/up/")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "to_file").symlink_to("a/b/f")
    (tmp_path / "dangling").symlink_to("nothing")
    return tmp_path


def where(path: str, links: Links = Links.OWNED, home: str = "/") -> tuple[str, str]:
    folder, name = open_path(path, home=home, links=links)
    found = os.readlink(f"/proc/self/fd/{folder.fd}"), name
    folder.release()
    return found


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("a", "a", ""),
        ("a/", "a", ""),
        ("a/.", "a", ""),
        ("a//b/../b", "a/b", ""),
        ("a/b/f", "a/b", "f"),
        ("a/b/new", "a/b", "new"),
        ("to_a/b", "a/b", ""),
        ("to_a", "a", ""),
        ("absolute/b/f", "a/b", "f"),
        ("chain/f", "a/b", "f"),
        ("chain/..", "a", ""),  # of where the link leads, as the kernel has it
        ("to_file", ".", "to_file"),
        ("dangling", ".", "dangling"),
        ("loop", ".", "loop"),
    ],
)
def test_paths(place: Path, path: str, folder: str, name: str) -> None:
    expected = (os.path.normpath(place / folder), name)
    assert where(f"{place}/{path}") == expected
    assert where(path, home=str(place)) == expected


class Witness:
    """Something that a function has, and that is there for as long as its frame is."""


def test_what_is_no_directory_keeps_nothing_in_memory(place: Path, uncollected: None) -> None:
    def walk_to(path: str) -> weakref.ref[Witness]:
        witness = Witness()
        where(f"{place}/{path}")
        return weakref.ref(witness)

    for path in ("a/b/f", "a/b/nothing", "to_file"):
        assert walk_to(path)() is None


def test_the_root() -> None:
    assert where("/") == ("/", "")
    assert where("/..") == ("/", "")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing/x", "cannot enter {}/nothing: no such file or directory"),
        ("nothing/", "cannot enter {}/nothing: no such file or directory"),
        ("a/b/f/x", "cannot enter {}/a/b/f: not a directory"),
        ("a/b/f/", "cannot enter {}/a/b/f: not a directory"),
        ("loop/x", "cannot enter {}/loop: too many links"),
        ("dangling/x", "cannot enter {}/nothing: no such file or directory"),
        ("a\n/x", "control character in the name 'a\\n'"),
        ("x" * 256, "name of 256 bytes, expected no more than 255"),
    ],
)
def test_paths_that_lead_nowhere(place: Path, path: str, reason: str) -> None:
    with pytest.raises(FileError) as caught:
        where(f"{place}/{path}")
    assert str(caught.value) == reason.format(place)


def test_no_links_are_followed_where_none_may_be(place: Path) -> None:
    with pytest.raises(FileError, match=r"to_a: is a symbolic link$"):
        where(f"{place}/to_a/b", Links.NEVER)
    with pytest.raises(FileError, match=r"to_a: is a symbolic link$"):
        where(f"{place}/to_a", Links.NEVER)  # nor is it a name that is free to be replaced
    assert where(f"{place}/to_file", Links.NEVER) == (str(place), "to_file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links of others")
class TestLinksOfOthers:
    """A link is followed where that gives its owner nothing."""

    @pytest.fixture
    def theirs(self, place: Path) -> Path:
        os.lchown(place / "to_a", NOBODY, NOBODY)
        return place

    @pytest.mark.parametrize("path", ["to_a/b/f", "to_a/", "to_a", "chain/f"])
    def test_to_what_is_ours(self, theirs: Path, path: str) -> None:
        with pytest.raises(FileError) as caught:
            where(f"{theirs}/{path}")
        why = f"is a symbolic link of user {NOBODY} to what belongs to somebody else"
        assert str(caught.value) == f"cannot enter {theirs}/to_a: {why}"
        assert where(f"{theirs}/{path}", Links.ALWAYS)

    def test_to_what_is_their_own(self, theirs: Path) -> None:
        os.chown(theirs / "a", NOBODY, NOBODY)
        assert where(f"{theirs}/to_a/b") == (f"{theirs}/a/b", "")

    def test_by_way_of_their_own(self, theirs: Path) -> None:
        """Their link to their directory is followed, and the next link in there is looked at by itself."""
        os.chown(theirs / "a", NOBODY, NOBODY)
        (theirs / "a/etc").symlink_to("/etc")
        os.lchown(theirs / "a/etc", NOBODY, NOBODY)
        with pytest.raises(FileError, match="to what belongs to somebody else"):
            where(f"{theirs}/to_a/etc/passwd")

    def test_their_file_link_is_a_name(self, theirs: Path) -> None:
        os.lchown(theirs / "to_file", NOBODY, NOBODY)
        assert where(f"{theirs}/to_file") == (str(theirs), "to_file")


def test_directories_that_can_be_entered_and_not_read(place: Path, child: Callable[..., None]) -> None:
    place.chmod(0o711)
    (place / "a").chmod(0o711)

    def scenario() -> None:
        folder, name = open_path(f"{place}/a/b/f", home="/", links=Links.OWNED)
        assert name == "f"
        folder.release()

    for above in [place, *place.parents]:
        if not above.stat().st_mode & 0o001:
            pytest.skip("the temporary directory is closed to others")
    child(scenario, uid=NOBODY if os.geteuid() == 0 else None)


# Roots -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "inside"),
    [("a", True), ("a/b", True), ("to_a/b", True), (".", False), ("..", False), ("/", False), ("a/..", False)],
)
def test_is_within(place: Path, path: str, inside: bool) -> None:
    folder, _ = open_path(path, home=str(place), links=Links.OWNED)
    roots = [found for found in (identity(f"{place}/to_a"),) if found is not None]
    assert is_within(folder, roots) is inside
    folder.release()


def test_a_name_that_only_looks_like_a_root(place: Path) -> None:
    (place / "a2").mkdir()
    folder, _ = open_path(f"{place}/a2", home="/", links=Links.OWNED)
    root = identity(f"{place}/a")
    assert root is not None
    assert not is_within(folder, [root])
    folder.release()


def test_identities(place: Path) -> None:
    info = (place / "a").stat()
    assert identity(f"{place}/to_a") == (info.st_dev, info.st_ino)
    assert identity(f"{place}/a/b/f") is None
    assert identity(f"{place}/nothing") is None


# Folders and cursors -----------------------------------------------------------------------------------------------


def test_a_folder_is_closed_by_its_last_user(place: Path) -> None:
    root = Folder.root()
    folder, _ = walk(root, f"{place}/a/", Links.NEVER)
    root.release()
    assert folder.hold() is folder
    folder.release()
    assert folder.names() == ["b", "up"]
    assert folder.join("b") == f"{place}/a/b"
    folder.release()
    with pytest.raises(FileError, match=r"^cannot list the directory: bad file descriptor$"):
        folder.names()


def test_a_folder_of_ones_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    folder = Folder.at("to_a")
    assert (folder.names(), folder.path) == (["b", "up"], f"{place}/to_a")
    folder.release()
    with pytest.raises(FileError, match=r"^cannot enter to_file: not a directory$"):
        Folder.at("to_file")


def test_a_cursor(place: Path) -> None:
    (place / "a/c").mkdir()
    base, _ = open_path(str(place), home="/", links=Links.NEVER)
    cursor = Cursor(base)
    assert cursor.folder(()) is base
    deep = cursor.folder(("a", "b"))
    assert deep.lstat("f") is not None
    assert cursor.folder(("a", "b")) is deep
    assert cursor.folder(("a", "c")).names() == []
    for names in (("to_a",), ("a", "b", "f"), ("a", "up"), ("loop",)):
        with pytest.raises(NotADirectoryError):
            cursor.folder(names)
    with pytest.raises(FileNotFoundError):
        cursor.folder(("a", "nothing"))
    assert cursor.folder(("a",)).names() == ["b", "c", "up"]
    cursor.close()
    base.release()


def test_lstat(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Folder.root()
    assert root.lstat("nothing here") is None
    with pytest.raises(FileError, match=r"^cannot look at x+\.\.\.$"):
        root.lstat("x" * 5000)
    assert root.join("x") == "/x"
    root.release()


@pytest.mark.parametrize("name", ["a", "\udcff", " ", "a b", "ä", "\u200b", "x" * 255, ".hidden", "-rf"])
def test_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize("name", ["\0", "\n", "\t", "\x1b[2J", "a\x7f"])
def test_control_characters(name: str) -> None:
    with pytest.raises(FileError) as caught:
        check_name(name)
    assert str(caught.value) == f"control character in the name {name!r}"


def test_kinds() -> None:
    modes = {0o040000: "a directory", 0o120000: "a symbolic link", 0o010000: "a FIFO", 0o140000: "a socket"}
    modes |= {0o060000: "a block device", 0o020000: "a character device", 0o100644: "a regular file"}
    assert {mode: kind_of(mode) for mode in modes} == modes
