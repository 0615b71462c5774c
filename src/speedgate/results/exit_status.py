"""Exit statuses of a pytest session and of a command of `speedgate`."""

from __future__ import annotations

import enum


class ExitStatus(enum.IntEnum):
    """The statuses of sessions and commands. pytest's own are below 10, of which 3 to 5 are not named here."""

    OK = 0  # every test passed; the command did its work
    RED = 1  # a test failed; the verdict that the command gave is red
    FAILED = 2  # the command printed an error; argparse uses the same, and pytest when it is interrupted
    UPLOAD = 10  # every test passed, and the history or the disk did not take the results
    UPLOAD_AND_TESTS = 11  # a test failed, and the history did not take the results
    UNFINISHED = 75  # a recording stopped at its budget; the same command continues it (EX_TEMPFAIL of sysexits.h)
    CLOSED_PIPE = 141  # nobody read the output to its end: 128 + SIGPIPE, as a shell reports it


# Statuses of a session in which every test had its turn, by what they say of the tests.
GREEN = frozenset({ExitStatus.OK, ExitStatus.UPLOAD})
RED = frozenset({ExitStatus.RED, ExitStatus.UPLOAD_AND_TESTS})
JUDGED = GREEN | RED
