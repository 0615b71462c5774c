"""What an image is made of: the kernels that ran, the attention among them, and a digest of the code that was generated.

It comes from an untimed pass of the worker after its rounds. Names in it are another program's: bounded here, escaped where
they are shown.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Any

OTHERS = "(other kernels)"
_MOST_KERNELS = 100
_LONGEST_NAME = 200
_DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
    """One kernel, or operator where the device has none, over an image: how often it ran and its own seconds together."""

    name: str
    count: int
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Attribution:
    """The kernels of one profiled image, the most expensive ones first; what is left stands as the last, `(other kernels)`.

    `attention_kernels` counts the kernels of scaled dot-product attention by our names. `code_digest` is of the source that
    the compiler generated: 16 hexadecimal digits, None where nothing was compiled.
    """

    kernels: tuple[Kernel, ...]
    attention_kernels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    code_digest: str | None = None

    @property
    def total_s(self) -> float:
        return math.fsum(kernel.seconds for kernel in self.kernels)


def told(reply: Any) -> Attribution:
    """What a worker's pass says, bounded: `{"kernels": [[name, count, seconds]], "attention_kernels": {}, "code_digest": None}`.

    Names beyond 200 characters end in a digest of the whole. A `ValueError` where that is not what it says.
    """
    where = "the worker's attribution"
    rows = reply.get("kernels") if isinstance(reply, Mapping) else None
    if not isinstance(rows, list | tuple) or not all(isinstance(row, list | tuple) and len(row) == 3 for row in rows):
        raise ValueError(f"{where}: kernels: expected rows of name, count and seconds")
    named = [{"name": _bounded(name), "count": count, "seconds": seconds} for name, count, seconds in rows]
    kernels = _most_expensive([_kernel(row, where=f"{where}: kernels[{i}]") for i, row in enumerate(named)])
    return from_json({**reply, "kernels": [dataclasses.asdict(kernel) for kernel in kernels]}, where=where)


def from_json(data: Any, *, where: str) -> Attribution:
    """A stored one; a `ValueError` names `where` and the field that is wrong."""
    fields = {"kernels", "attention_kernels", "code_digest"}
    if not isinstance(data, Mapping) or set(data) != fields:
        raise ValueError(f"{where}: expected an object of {', '.join(sorted(fields))}")
    rows, ran, digest = data["kernels"], data["attention_kernels"], data["code_digest"]
    if not isinstance(rows, list | tuple) or len(rows) > _MOST_KERNELS + 1:
        raise ValueError(f"{where}: kernels: expected a list of at most {_MOST_KERNELS + 1}")
    kernels = tuple(_kernel(row, where=f"{where}: kernels[{index}]") for index, row in enumerate(rows))
    if len({kernel.name for kernel in kernels}) != len(kernels):
        raise ValueError(f"{where}: kernels: expected each name once")
    if not isinstance(ran, Mapping) or not all(_is_name(name) and _is_count(count) for name, count in ran.items()):
        raise ValueError(f"{where}: attention_kernels: expected how often each ran")
    if digest is not None and not (isinstance(digest, str) and _DIGEST.fullmatch(digest)):
        raise ValueError(f"{where}: code_digest: expected 16 hexadecimal digits or null")
    return Attribution(kernels=kernels, attention_kernels=dict(ran), code_digest=digest)


def _most_expensive(kernels: list[Kernel]) -> list[Kernel]:
    """At most so many, what two rows say of one name added up, and the rest as one."""
    counts: collections.Counter[str] = collections.Counter()
    seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
    for kernel in kernels:
        counts[kernel.name] += kernel.count
        seconds[kernel.name] += kernel.seconds
    names = sorted(counts, key=lambda name: (-seconds[name], name))
    kept, rest = names[:_MOST_KERNELS], names[_MOST_KERNELS:]
    others = Kernel(
        name=OTHERS, count=sum(counts[name] for name in rest), seconds=math.fsum(seconds[name] for name in rest)
    )
    found = [Kernel(name=name, count=counts[name], seconds=seconds[name]) for name in kept]
    return [*found, others] if rest else found


def _kernel(row: Any, *, where: str) -> Kernel:
    if not isinstance(row, Mapping) or set(row) != {"name", "count", "seconds"}:
        raise ValueError(f"{where}: expected an object of count, name, seconds")
    if not _is_name(row["name"]) or not _is_count(row["count"]):
        raise ValueError(f"{where}: expected a name of at most {_LONGEST_NAME} characters and a count above zero")
    seconds = row["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise ValueError(f"{where}: seconds: expected a finite number, zero or above")
    return Kernel(name=row["name"], count=row["count"], seconds=float(seconds))


def _bounded(name: Any) -> Any:
    """Two templates of C++ may differ in their last arguments alone, so that a cut one must not stand for both."""
    if not isinstance(name, str) or len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 12]}... {digest}"


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME


def _is_count(count: Any) -> bool:
    return type(count) is int and count > 0
