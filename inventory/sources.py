"""Opens what `-i` names: files, scripts, directories, lists of hosts, standard input.

What a source is decides its content more than its name: JSON starts with a brace, an executable is run, the rest
is INI. Its rules: several sources make one inventory, the later winning; one that cannot be read whole fails all.
"""

import contextlib
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from inventory import ini, varsfiles
from inventory.addresses import split_port
from inventory.errors import InventoryError, printable, quoted
from inventory.files import decode, listed, read_bytes, read_stream, unreadable
from inventory.model import Inventory
from inventory.names import Value, check_host_name
from inventory.tree import Line, Tree, VarsFiles

STDIN = "-"
# A cloud's API may take a minute for some thousand machines.
SCRIPT_SECONDS = 120.0
# First lines that are YAML and cannot be INI.
_YAML = re.compile(r"---(\s.*)?|[\w.\"'-]+:(\s.*)?")


class Options(NamedTuple):
    """How sources are read: who hears warnings, and how scripts are run and their output kept."""

    warn: Callable[[str], None]
    stdin: BinaryIO | None = None
    script_seconds: float = SCRIPT_SECONDS
    cache_ttl: float = 0.0
    refresh_cache: bool = False
    cache_dir: str | None = None


def load(
    sources: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    warn: Callable[[str], None],
    cache_ttl: float = 0.0,
    refresh_cache: bool = False,
    cache_dir: str | None = None,
    script_seconds: float = SCRIPT_SECONDS,
) -> Inventory:
    """Return the inventory that `sources` make together.

    A source is a path, `-` for `stdin`, or a list of names with a comma in it. `cache_ttl` (seconds; 0 is off) is
    how old the kept output of a script may be, `cache_dir` where it is kept (default `$XDG_CACHE_HOME/fleet`),
    `script_seconds` how long one script may run. `warn` is called with one line at a time.

    Raises:
        InventoryError: a source cannot be read whole.
    """
    options = Options(
        warn=warn,
        stdin=stdin,
        script_seconds=script_seconds,
        cache_ttl=cache_ttl,
        refresh_cache=refresh_cache,
        cache_dir=cache_dir,
    )
    tree = Tree()
    reader = _Reader(tree, options)
    for number, source in enumerate(sources):
        if source == STDIN and STDIN in sources[:number]:
            raise InventoryError("standard input can be read once", path=STDIN)
        reader.read(source)
    tree.settle()
    reader.add_files(sources)
    for name in sorted(tree.groups.keys() & tree.hosts.keys()):
        warn(f"{quoted(name)} is a host and a group; a pattern of that name means the host")
    return Inventory(tree)


class _Reader:
    """Puts one source after the other into the tree."""

    def __init__(self, tree: Tree, options: Options) -> None:
        self.tree = tree
        self.options = options

    def read(self, source: str) -> None:
        if source == STDIN:
            self.read_stdin()
        elif "," in source and not os.path.exists(source):
            self.read_list(source)
        else:
            self.read_path(source, ())

    def add_files(self, sources: Sequence[str]) -> None:
        """Add the files of variables beside each source; once all are read, for they may be of any host."""
        known: dict[str, VarsFiles] = {}
        for source in sources:
            if source == STDIN or ("," in source and not os.path.exists(source)):
                continue
            directory = source if os.path.isdir(source) else os.path.dirname(source) or os.curdir
            real = os.path.realpath(directory)
            if real not in known:
                known[real] = varsfiles.read(directory, self.tree, source=source, warn=self.options.warn)
            self.tree.files.append(known[real])

    def read_stdin(self) -> None:
        if self.options.stdin is None:
            raise InventoryError("there is no standard input to read", path=STDIN)
        name = "stdin"
        self.read_text(decode(read_stream(self.options.stdin, name), name), name)

    def read_list(self, source: str) -> None:
        for word in source.split(","):
            name = word.strip()
            if not name:
                continue
            if "[" in name:
                hint = f"node sets are targets: -w {name}"
                raise InventoryError("a list of hosts holds no ranges", text=name, hint=hint)
            name, port = split_port(name)
            check_host_name(name)
            known = name in self.tree.hosts
            entry = self.tree.host(name, self.tree.ungrouped)
            if port is not None and not known:
                entry.layers.append(Line({"ansible_port": port}, "-i", None))

    def read_path(self, path: str, above: tuple[str, ...]) -> None:
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from None
        if stat.S_ISDIR(mode):
            names, inside = listed(path, above)
            for name in names:
                self.read_path(os.path.join(path, name), inside)
        elif not (stat.S_ISREG(mode) and os.access(path, os.X_OK) and self.run(path)):
            data = read_bytes(path, regular=bool(above))
            with self.explained(path, data):
                self.read_text(decode(data, path), path)

    def run(self, path: str) -> bool:
        """Read what the script `path` prints; False when it is no script, for all its x bit."""
        # These bring half the start-up time of the package with them (subprocess, tempfile, hashlib).
        from inventory import listing
        from inventory.cache import Cache, default_directory
        from inventory.documents import Document
        from inventory.scripts import NotExecutableError, Script

        options = self.options
        script = Script(path, options.warn, options.script_seconds)
        cache = Cache(options.cache_dir or default_directory(), options.cache_ttl, options.warn)
        kept = cache.get(path) if options.cache_ttl > 0 and not options.refresh_cache else None
        try:
            text = script.list() if kept is None else kept
        except NotExecutableError:
            return False
        answers: dict[str, Value] = {}

        def ask(name: str) -> dict[str, Value]:
            variables = script.host(name)
            answers[name] = variables
            return variables

        listing.parse(Document(f"{path} --list", text, lines=False), self.tree, warn=options.warn, ask=ask)
        if options.cache_ttl > 0 and kept is None:
            cache.put(path, with_hostvars(text, answers) if answers else text)
        return True

    def read_text(self, text: str, path: str) -> None:
        if text.lstrip()[:1] == "{":
            from inventory import listing
            from inventory.documents import Document

            listing.parse(Document(path, text), self.tree, warn=self.options.warn)
            return
        line = _first_line(text)
        if path.endswith((".yml", ".yaml")) or _YAML.fullmatch(line):
            raise _foreign("a YAML inventory", path)
        if path.endswith(".toml"):
            raise _foreign("a TOML inventory", path)
        ini.parse(text, path, self.tree)

    @contextlib.contextmanager
    def explained(self, path: str, data: bytes) -> Iterator[None]:
        """Tell of a script without its x bit what it is: its lines are no inventory, and the error is not the cause."""
        try:
            yield
        except InventoryError as error:
            if data[:2] == b"#!" and error.hint is None:
                error.hint = f"a script must be executable: chmod +x {shlex.quote(printable(path))}"
            raise


def with_hostvars(text: str, hostvars: dict[str, Value]) -> str:
    """Return the JSON inventory `text` with the variables that had to be asked for host by host."""
    return json.dumps({**json.loads(text), "_meta": {"hostvars": hostvars}})


def _first_line(text: str) -> str:
    for line in text.split("\n"):
        line = line.strip()
        if line and line[0] not in "#;":
            return line
    return ""


def _foreign(what: str, path: str) -> InventoryError:
    source = "FILE" if path == "stdin" else shlex.quote(printable(path))
    return InventoryError(
        f"{what} is not read here",
        path=path,
        hint=f"let Ansible read it: ansible-inventory -i {source} --list | fleet run -i - ...",
    )
