"""`fleet init` and `fleet enroll`: the controller's key, and the hosts it opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from controller.cli import options as o
from controller.cli.declare import Argument, Command, Option
from controller.errors import FleetError
from controller.settings import Settings, load_settings

NameOption = Annotated[
    str | None, Option("--name", metavar="NAME", help="What agents know us as. [default: the login name]")
]
HostsArgument = Annotated[list[str] | None, Argument("HOST...", help="Hosts, or node sets: web[01-20].")]
OutputOption = Annotated[
    str | None,
    Option("-o", "--output-dir", metavar="DIR", help="Write DIR/HOST.enrol. One HOST alone may go to stdout."),
]
PoolOption = Annotated[
    str | None,
    Option("--pool", metavar="NAME", help="One enrolment for many like machines (fleet_pool=NAME in the inventory)."),
]
ForceOption = Annotated[bool, Option("--force", help="New keys for what is enrolled: a new epoch.")]


def init(name: NameOption = None, key: o.KeyOption = None) -> None:
    """Make the controller's key. Whoever has that file is you, on every host: keep it safe, and keep a copy."""
    from controller import keyfile

    path = key or load_settings(os.environ).key or keyfile.default_path(os.environ)
    with fleet_errors():
        made = keyfile.create(path, keyfile.default_name(_login_name()) if name is None else name)
    o.say(f"made {path}: the key of controller {made.name}")
    print("next: fleet enroll HOST -o enrolments", file=sys.stderr)


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run us as a user without a name; 3.13 says so with an OSError
        raise FleetError("--name", "there is no login name to take", "fleet init --name NAME") from None


def enroll(
    hosts: HostsArgument = None,
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    exclude: o.ExcludeOption = None,
    output_dir: OutputOption = None,
    pool: PoolOption = None,
    force: ForceOption = False,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
) -> None:
    """Make the file that a host's agent needs to know us, and note the host in the registry."""
    from controller import enroll as enrolments
    from controller import keyfile
    from controller import registry as registries

    settings = load_settings(os.environ)
    key_path = key or settings.key or keyfile.default_path(os.environ)
    registry_path = registry or settings.registry or os.path.join(os.path.dirname(key_path), registries.FILE_NAME)
    names = _names(hosts, inventory, limit, exclude, settings)
    with fleet_errors():
        made = enrolments.enroll(
            keyfile.load(key_path), registry_path, names, pool=pool, out_dir=output_dir, force=force, hand_out=o.say
        )
    for enrolled in made:
        if enrolled.path is not None:
            o.say(f"enrolled {enrolled.name} (epoch {enrolled.epoch}): {enrolled.path}")
    if pool is not None:
        print(
            f"note: every host of pool {pool} holds the same keys: root on one of them can pose as any other",
            file=sys.stderr,
        )
    print("next, on the host: fleet-agent init --enrolment FILE && fleet-agent serve", file=sys.stderr)


def _names(
    hosts: list[str] | None,
    inventory: list[str] | None,
    limit: list[str] | None,
    exclude: list[str] | None,
    settings: Settings,
) -> list[str]:
    """Return the hosts to enroll: those named, or those of the inventory that match."""
    from controller.targets import load_inventory

    if hosts and (limit or inventory or exclude):
        raise FleetError("enroll", "name hosts, or choose them from an inventory with -l, not both")
    if hosts:
        return list(load_inventory((), hosts=",".join(hosts), warn=print).names)
    if limit or inventory or exclude:
        targets = o.Targets(inventory, limit, exclude=exclude)
        return [host.name for host in targets.select(targets.load(settings))]
    return []


@contextmanager
def fleet_errors() -> Iterator[None]:
    """Put the errors of keys, registries and enrolments in the shape that `main` shows."""
    from controller.enroll import EnrollError
    from controller.keyfile import KeyFileError
    from controller.registry import RegistryError

    try:
        yield
    except (KeyFileError, RegistryError) as error:
        raise FleetError(error.path, error.reason, error.hint) from None
    except EnrollError as error:
        raise FleetError(error.name, error.reason, error.hint) from None


COMMANDS = {
    "init": Command(init),
    "enroll": Command(enroll),
}
