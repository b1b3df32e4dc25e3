"""How a prompt shows results: folded, compared or as they come, and nothing at all of what is simply well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controller.output import RunInfo, Sink, Writer
from controller.output.fold import heading, said_of
from controller.output.groups import Groups
from controller.results import Result
from controller.shell.session import News
from controller.text import clean_line
from inventory import fold

__all__ = ["Shy", "news_lines", "reasons", "sink_for"]


class Shy:
    """Another sink, except that nothing is said when every host is well and none has anything to say: `cd /tmp`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._said = False
        self.keeps = sink.keeps

    def start(self, host: str) -> None:
        self._sink.start(host)

    def stdout(self, host: str, data: bytes) -> None:
        self._said = True
        self._sink.stdout(host, data)

    def stderr(self, host: str, data: bytes) -> None:
        self._said = True
        self._sink.stderr(host, data)

    def end(self, result: Result) -> None:
        self._sink.end(result)

    def finish(self, run: RunInfo, results: Sequence[Result]) -> None:
        quiet = all(result.status.good and result.note is None for result in results)
        if self._said or not quiet or len(results) < run.hosts:
            self._sink.finish(run, results)


def sink_for(out: Writer, err: Writer, *, folded: bool, compared: bool) -> Sink:
    """Return where the results of one command go."""
    if compared:
        from controller.output.diff import Diff

        return Shy(Diff(out, err))
    if folded:
        from controller.output.fold import Fold

        return Shy(Fold(out, err))
    from controller.output.stream import Stream

    return Shy(Stream(out, err))


def reasons(results: Iterable[Result]) -> list[str]:
    """Return a line for each reason why hosts are not well: "web[3,7] (2): unreachable: …"."""
    groups = Groups()
    groups.end_all(result for result in results if not result.status.good)
    return [f"{clean_line(heading(group))}: {'; '.join(said_of(group))}" for group in groups.sorted()]


def news_lines(news: Iterable[News]) -> list[str]:
    """Return a line for each thing that became of hosts, in the order in which it did."""
    hosts: dict[str, list[str]] = {}
    for one in news:
        hosts.setdefault(one.text, []).append(one.host)
    return [f"{clean_line(fold(names))}: {clean_line(text)}" for text, names in hosts.items()]
