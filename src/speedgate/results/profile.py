"""The profile of one image: the kernels that ran, the attention among them, and a digest of the generated code.

It comes from an untimed pass of the worker after its rounds. Names in it are another program's: they are bounded here, and
escaped where they are shown.
"""

from __future__ import annotations

import collections
import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from speedgate.results.json_io import Count, NonNegative, decode

OTHERS = "(other kernels)"
_MOST_KERNELS = 100
_LONGEST_NAME = 200

KernelName = Annotated[str, Meta(min_length=1, max_length=_LONGEST_NAME)]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]


class Kernel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kernel, or operator where the device has none, over an image: how often it ran, and its own seconds in total."""

    name: KernelName
    count: Count
    seconds: NonNegative


class Attribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kernels of one profiled image, the most expensive ones first; the rest is summed up in the last, `OTHERS`.

    `attention_kernels` counts the kernels of scaled dot-product attention by our names. `code_digest` is of the source that
    the compiler generated: 16 hexadecimal digits, None if nothing was compiled. A `ValueError` if a name is repeated.
    """

    kernels: Annotated[tuple[Kernel, ...], Meta(max_length=_MOST_KERNELS + 1)]
    attention_kernels: Mapping[KernelName, Count] = msgspec.field(default_factory=dict)
    code_digest: Digest | None = None

    def __post_init__(self) -> None:
        if len({kernel.name for kernel in self.kernels}) != len(self.kernels):
            raise ValueError("kernels: expected each name once")

    @property
    def total_s(self) -> float:
        return math.fsum(kernel.seconds for kernel in self.kernels)


class _Reply(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kernels: tuple[tuple[Annotated[str, Meta(min_length=1)], Count, NonNegative], ...]
    attention_kernels: dict[KernelName, Count]
    code_digest: Digest | None


def parse_profile(reply: Any) -> Attribution:
    """Bound a worker's reply: `{"kernels": [[name, count, seconds]], "attention_kernels": {}, "code_digest": None}`.

    Names beyond 200 characters end in a digest of the whole name. A `ValueError` if the reply has another form.
    """
    profile = decode(reply, _Reply, where="the worker's attribution")
    return Attribution(
        kernels=tuple(_most_expensive(profile.kernels)),
        attention_kernels=profile.attention_kernels,
        code_digest=profile.code_digest,
    )


def _most_expensive(rows: Iterable[tuple[str, int, float]]) -> list[Kernel]:
    """Add up the rows of each name, keep the most expensive kernels, and sum up the others in one."""
    counts: collections.Counter[str] = collections.Counter()
    seconds: collections.defaultdict[str, float] = collections.defaultdict(float)
    for long_name, count, spent_s in rows:
        name = _shorten(long_name)
        counts[name] += count
        seconds[name] += spent_s
    every = [Kernel(name=name, count=count, seconds=seconds[name]) for name, count in counts.items()]
    every.sort(key=lambda kernel: (-kernel.seconds, kernel.name))
    kernels, rest = every[:_MOST_KERNELS], every[_MOST_KERNELS:]
    if rest:
        spent_s = math.fsum(kernel.seconds for kernel in rest)
        kernels.append(Kernel(name=OTHERS, count=sum(kernel.count for kernel in rest), seconds=spent_s))
    return kernels


def _shorten(name: str) -> str:
    """Keep apart two C++ templates that differ only in their last arguments: a cut name ends in a digest."""
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{name[: _LONGEST_NAME - 12]}... {digest}"
