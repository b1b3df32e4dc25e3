"""The agent: the daemon that runs on each machine. Standard library alone, so that it can ship as one file."""

__version__ = "0.1.0"
