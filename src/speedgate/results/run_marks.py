"""The marks of a run that no baseline and no history takes: an injected fault (`--inject`), or `--quick`.

Every record of such a run carries its mark. A fault shows that a gate works, so the figures are not those of the code; a quick
run has no figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from speedgate.results.json_io import as_object
from speedgate.results.run import Outcome, ShortText

INJECTED, QUICK = "injected", "quick"  # fields of a result document
_REFUSED = "so it is never promoted, merged or added to a history"


class Injection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault as `--inject` named it, the cases that have it, and the verdict that it must lead to.

    `gate` is the claim of that verdict, and `outcome` its outcome.
    """

    fault: ShortText
    gate: ShortText
    outcome: Outcome
    case_keys: Annotated[tuple[ShortText, ...], Meta(min_length=1, max_length=1000)]

    @property
    def sentence(self) -> str:
        """The warning that stands beside the figures of the run."""
        more = f" and {len(self.case_keys) - 1} more" if len(self.case_keys) > 1 else ""
        return f"injected fault {self.fault} in {self.case_keys[0]}{more}: the figures of this run are not those of the code"


def warning(injection: Injection | None, *, is_quick: bool) -> tuple[str, str] | None:
    """Return the mark of a run, such as "quick", and the sentence to show with its results; None for an ordinary run."""
    if injection is not None:
        return "Fire drill", injection.sentence
    if is_quick:
        return "Quick run", "--quick checked structure and images of the stages that compile nothing, and timed nothing"
    return None


def refuse_marked(document: Mapping[str, Any], *, where: str) -> None:
    """Raise `ValueError` for a record of a run with a mark; `where` names the record."""
    if INJECTED in document:
        fault = str(as_object(document[INJECTED]).get("fault", "of no name"))[:200]
        raise ValueError(
            f"{where}: the run has the injected fault {fault!r}: its figures are not those of the code, {_REFUSED}"
        )
    if document.get(QUICK):
        raise ValueError(f"{where}: the run was made with --quick, which times nothing, {_REFUSED}")
