"""Exit statuses of a pytest session that measures and judges."""

from __future__ import annotations

PASSED, TESTS_FAILED = 0, 1  # pytest's own: the only two with which every test had its turn
# Ours. pytest's own statuses are below 10.
UPLOAD_FAILED = 10  # the history did not take the results, and every test passed
UPLOAD_AND_TESTS_FAILED = 11
UNFINISHED = 75  # a recording stopped at its budget; the same command continues it (EX_TEMPFAIL of sysexits.h)

# Statuses with which every claim that could be judged was judged, by the colour of the session.
GREEN = (PASSED, UPLOAD_FAILED)
RED = (TESTS_FAILED, UPLOAD_AND_TESTS_FAILED)
JUDGED = (*GREEN, *RED)
