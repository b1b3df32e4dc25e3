"""The loop: a line, what it says, and again. And what all of it comes to in the end."""

from __future__ import annotations

from controller.errors import FleetError
from controller.results import Result, exit_code
from controller.shell.commands import execute
from controller.shell.dialogue import Dialogue
from controller.shell.prompt import Lines
from controller.shell.signals import SignalledError
from controller.text import clean_line

__all__ = ["converse"]


def converse(dialogue: Dialogue, lines: Lines) -> int:
    """Connect, and do what the lines say to the last one. Returns the exit code.

    Somebody who is there is told of a mistake and may mend it; without, FleetError is raised, because lines that follow
    (after a mistyped `:limit`) may be meant for other hosts.
    """
    results = dialogue.join()
    dialogue.tell_reasons(results)
    if dialogue.interrupted is not None:
        return dialogue.interrupted
    if not any(result.status.good for result in results):
        raise FleetError("shell", _nobody(results), exit_code=exit_code(result.status for result in results))
    if lines.interactive:
        dialogue.err.line("directory and variables last, :help says what else there is, Ctrl-D leaves")
    while True:
        try:
            line = lines.next(dialogue.prompt())
            if line is None or not _do(dialogue, line.strip()):
                break
        except KeyboardInterrupt:
            if not lines.interactive:
                raise
            dialogue.err.line("")
        except SignalledError as error:
            dialogue.err.line("")
            return 128 + error.number
        except FleetError as error:
            if not lines.interactive:
                raise
            _complain(dialogue, error)
        stopped = dialogue.leaving if lines.interactive else dialogue.interrupted
        if stopped is not None:
            return stopped
        dialogue.tell_news()
    return 0 if lines.interactive else dialogue.exit_code


def _do(dialogue: Dialogue, line: str) -> bool:
    """Do one line. Returns whether there may be another."""
    dialogue.interrupted = None
    if line == "exit":
        return False
    if line.startswith(":"):
        return execute(dialogue, line)
    if line and (not line.startswith("#") or "\n" in line):  # several lines are pasted as one
        dialogue.tell_news()
        dialogue.run(line)
    return True


def _nobody(results: list[Result]) -> str:
    return "the host could not be reached" if len(results) == 1 else f"none of {len(results)} hosts could be reached"


def _complain(dialogue: Dialogue, error: FleetError) -> None:
    dialogue.err.line(f"fleet: {clean_line(error.what)}: {clean_line(error.why)}")
    if error.hint is not None:
        dialogue.err.line(f"hint: {clean_line(error.hint)}")
