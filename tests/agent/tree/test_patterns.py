"""Patterns in, yes or no out."""

from __future__ import annotations

import pytest

from agent.tree.patterns import Patterns, is_pattern, matches_name

YES = [
    ("*.log", "a.log"),
    ("*.log", "d/e/a.log"),
    ("*.log", ".log"),
    ("a", "d/a"),
    ("/a", "a"),
    ("/d/a", "d/a"),
    ("d/a", "x/d/a"),
    ("d/*", "d/a"),
    ("d/**", "d/e/f"),
    ("**/f", "d/e/f"),
    ("a?c", "abc"),
    ("[a-c]x", "bx"),
    ("[!a-c]x", "dx"),
    ("[^a-c]x", "dx"),
    ("[]]x", "]x"),
    ("[!]]x", "ax"),
    ("[a", "[a"),
    (r"\*", "*"),
    (r"a\[b", "a[b"),
    ("a\\", "a\\"),
    ("[[:]", ":"),
    ("[a&&b]", "&"),
    ("a\nb", "a\nb"),
    ("*", "a\nb"),
    ("\udcff*", "\udcffx"),
    ("(a|b)+.", "(a|b)+."),
]
NO = [
    ("*.log", "a.log/b"),
    ("*.log", "alog"),
    ("/a", "d/a"),
    ("d/a", "xd/a"),
    ("a", "ab"),
    ("a", "ba"),
    ("a?c", "a/c"),
    ("[!a]", "/"),
    ("[a-c]x", "dx"),
    ("[!a-c]x", "bx"),
    ("d/*", "d/e/f"),
    (r"\*", "a"),
    ("", "a"),
    ("/", "a"),
    ("cache/", "cache"),
]


@pytest.mark.parametrize(("pattern", "path"), YES)
def test_matches(pattern: str, path: str) -> None:
    assert Patterns([pattern]).match(path, folder=False)


@pytest.mark.parametrize(("pattern", "path"), NO)
def test_does_not_match(pattern: str, path: str) -> None:
    assert not Patterns([pattern]).match(path, folder=False)


def test_a_slash_at_the_end_means_directories() -> None:
    assert Patterns(["cache/"]).match("d/cache", folder=True)
    assert Patterns(["/cache/"]).match("cache", folder=True)
    assert not Patterns(["/cache/"]).match("d/cache", folder=True)
    assert Patterns(["cache"]).match("cache", folder=True)


def test_several() -> None:
    patterns = Patterns(["*.o", "/tmp/"])
    assert patterns
    assert [patterns.match(path, folder=True) for path in ("x.o", "tmp", "d/tmp")] == [True, True, False]
    assert not Patterns([])
    assert not Patterns(["/"])


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "a", True),
        ("*", ".a", False),
        (".*", ".a", True),
        ("*.log", "a.log", True),
        ("?", ".", False),
        ("[.]a", ".a", False),
        ("a*", "a", True),
        ("*b", "a", False),
    ],
)
def test_a_name_as_a_shell_sees_it(pattern: str, name: str, expected: bool) -> None:
    assert matches_name(pattern, name) is expected


def test_what_is_a_pattern() -> None:
    assert [is_pattern(name) for name in ("a", "a*", "?", "[a]", "a]", "{a,b}")] == [
        False,
        True,
        True,
        True,
        False,
        False,
    ]
