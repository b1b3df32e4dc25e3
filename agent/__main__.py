"""``python -m agent`` is ``fleet-agent``."""

from agent.cli import run

if __name__ == "__main__":
    run()
