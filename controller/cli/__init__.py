"""The command line `fleet`. The only package that imports typer; each module but `main` holds some commands.

Commands read options, call the rest of `controller` and write what comes back. Whatever takes time to import is
imported inside the command that needs it: `fleet --help` must not wait for TLS.
"""

from controller.cli.main import main

__all__ = ["main"]
