"""`fleet push`, `fleet pull` and `fleet rollback`."""

from __future__ import annotations

import os
from dataclasses import replace

from controller.cli import file_options as x
from controller.cli import options as o
from controller.cli.declare import Command
from controller.cli.excludes import split
from controller.cli.file_look import FileLook, carry_out
from controller.settings import load_settings, read_seconds


def push(
    paths: x.SourcesArgument,
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude_hosts: x.HostsExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    fanout: o.FanoutOption = None,
    connect_timeout: o.ConnectTimeoutOption = None,
    port: o.PortOption = None,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    timeout: x.TimeoutOption = None,
    mode: x.ModeOption = None,
    owner: x.OwnerOption = None,
    group: x.GroupOption = None,
    preserve: x.PreserveOption = False,
    backup: x.BackupOption = None,
    check: x.CheckOption = False,
    diff: x.DiffOption = False,
    validate: x.ValidateOption = None,
    delete: x.DeleteOption = False,
    exclude: x.ExcludeOption = None,
    follow: x.FollowOption = False,
    quick: x.QuickOption = False,
    template: x.TemplateOption = False,
    format_: x.FormatOption = None,
    json: x.JsonOption = False,
    jsonl: x.JsonLinesOption = False,
    quiet: x.QuietOption = False,
    progress: x.ProgressOption = False,
    color: o.ColorOption = None,
) -> int:
    """Send files and directories to many hosts: whole or not at all, and only what differs.

    A DEST that ends in / or is a directory there means "into it"; otherwise it is the new name. Several SRC need a
    directory. Exit code: 0 every host changed or unchanged, 2 usage or no host, 3 cut off, 4 not reached, 5 failed.
    """
    settings = load_settings(os.environ)
    targets = o.Targets(
        inventory, limit, hosts, exclude_hosts, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    look = FileLook(
        format_,
        json,
        jsonl,
        quiet,
        progress,
        o.read_color_option(color, settings),
        check=check,
        backup=backup is not None,
    )
    *sources, destination = x.at_least_two(paths, "push", "SRC and DEST")
    seconds = o.check("--timeout", read_seconds, timeout, settings.timeout)
    known = targets.load(settings)
    files, more_hosts = split(exclude or [], known, sources)
    targets = replace(targets, exclude=[*(exclude_hosts or []), *more_hosts])
    if list_hosts:
        o.list_hosts(targets.select(known))
        return 0

    from controller.files import PushOptions

    options = PushOptions(
        mode=o.check("--mode", x.read_mode, mode, None),
        owner=o.check("--owner", x.read_name, owner, None),
        group=o.check("--group", x.read_name, group, None),
        preserve=preserve,
        backup=o.check("--backup", x.read_suffix, backup, None),
        check=check,
        diff=diff,
        validate=o.check("--validate", x.read_command, validate, None),
        delete=delete,
        exclude=files or (),
        quick=quick,
        follow=follow,
        template=template,
    )
    return carry_out(
        targets,
        known,
        settings,
        look,
        lambda fleet, **how: fleet.push(sources, destination, options=options, timeout=seconds, **how),
    )


def pull(
    paths: x.RemoteArgument,
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude_hosts: x.HostsExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    fanout: o.FanoutOption = None,
    connect_timeout: o.ConnectTimeoutOption = None,
    port: o.PortOption = None,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    timeout: x.TimeoutOption = None,
    flat: x.FlatOption = False,
    exclude: x.ExcludeOption = None,
    follow: x.FollowOption = False,
    preserve: x.PreserveOption = False,
    quick: x.QuickOption = False,
    max_size: x.MaxSizeOption = None,
    max_files: x.MaxFilesOption = None,
    format_: x.FormatOption = None,
    json: x.JsonOption = False,
    jsonl: x.JsonLinesOption = False,
    quiet: x.QuietOption = False,
    progress: x.ProgressOption = False,
    color: o.ColorOption = None,
) -> int:
    """Fetch files and directories from many hosts, each host's into LOCALDIR/HOST.

    Exit code: 0 every host changed or unchanged, 2 usage or no host, 3 cut off, 4 not reached, 5 failed.
    """
    settings = load_settings(os.environ)
    targets = o.Targets(
        inventory, limit, hosts, exclude_hosts, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    look = FileLook(format_, json, jsonl, quiet, progress, o.read_color_option(color, settings))
    *remote, folder = x.at_least_two(paths, "pull", "REMOTE and LOCALDIR")
    seconds = o.check("--timeout", read_seconds, timeout, settings.timeout)
    known = targets.load(settings)
    files, more_hosts = split(exclude or [], known)
    targets = replace(targets, exclude=[*(exclude_hosts or []), *more_hosts])
    if list_hosts:
        o.list_hosts(targets.select(known))
        return 0

    from controller.files import PullOptions

    options = PullOptions(
        flat=flat,
        follow=follow,
        preserve=preserve,
        quick=quick,
        exclude=files or (),
        max_size=o.check("--max-size", x.read_max_size, max_size, None),
        max_files=o.check("--max-files", x.read_count, max_files, PullOptions().max_files),
    )
    return carry_out(
        targets,
        known,
        settings,
        look,
        lambda fleet, **how: fleet.pull(remote, folder, options=options, timeout=seconds, **how),
    )


def rollback(
    run: x.RunArgument = None,
    inventory: o.InventoryOption = None,
    limit: o.LimitOption = None,
    hosts: o.HostsOption = None,
    exclude: o.ExcludeOption = None,
    list_hosts: o.ListHostsOption = False,
    fanout: o.FanoutOption = None,
    connect_timeout: o.ConnectTimeoutOption = None,
    port: o.PortOption = None,
    key: o.KeyOption = None,
    registry: o.RegistryOption = None,
    cache_ttl: o.CacheTtlOption = None,
    refresh_cache: o.RefreshCacheOption = False,
    timeout: x.TimeoutOption = None,
    format_: x.FormatOption = None,
    json: x.JsonOption = False,
    jsonl: x.JsonLinesOption = False,
    quiet: x.QuietOption = False,
    progress: x.ProgressOption = False,
    color: o.ColorOption = None,
) -> int:
    """Put back what the last push with --backup replaced or deleted. A file that has changed since is left alone.

    Without RUN it is the last push that any of the hosts had: where that replaced nothing, nothing is put back.
    """
    settings = load_settings(os.environ)
    targets = o.Targets(
        inventory, limit, hosts, exclude, fanout, connect_timeout, port, key, registry, cache_ttl, refresh_cache
    )
    look = FileLook(format_, json, jsonl, quiet, progress, o.read_color_option(color, settings))
    seconds = o.check("--timeout", read_seconds, timeout, settings.timeout)
    known = targets.load(settings)
    if list_hosts:
        o.list_hosts(targets.select(known))
        return 0
    return carry_out(targets, known, settings, look, lambda fleet, **how: fleet.rollback(run, timeout=seconds, **how))


COMMANDS = {
    "push": Command(push),
    "pull": Command(pull),
    "rollback": Command(rollback),
}
