"""The mark of a run into which a fault was injected (`--inject`): every record of it carries the mark.

Such a run shows that a gate works. Its figures are not those of the code, so no baseline and no history takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from speedgate.results.json_io import as_object
from speedgate.results.run import Outcome, ShortText

FIELD = "injected"  # of a result document


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


def refuse_injected(document: Mapping[str, Any], *, where: str) -> None:
    """Raise `ValueError` for a record of an injected run; `where` names it."""
    if FIELD in document:
        fault = str(as_object(document[FIELD]).get("fault", "of no name"))[:200]
        raise ValueError(
            f"{where}: the run has the injected fault {fault!r}; figures of a fault are never stored as those of the code"
        )
