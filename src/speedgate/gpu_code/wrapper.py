"""Read what inductor wrote: the generated wrapper of a graph, and its Triton kernels. Nothing here imports torch."""

from __future__ import annotations

import ast
import collections
import dataclasses
import hashlib
import re
from collections.abc import Mapping

_NUMBERED = re.compile(r"(tmp|r\d+_|x|y|z|load_seed_offset)(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExternalCall:
    """A call of a kernel that inductor does not generate: its function and the name of the buffer that it fills."""

    function: str
    output: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wrapper:
    """A parsed wrapper: sources of the Triton kernels by name, their launches in one call, and the external calls.

    `by_value` names the tensors of which a launch gets the number, not the address: a CPU tensor without dimensions.
    `partitions` counts the functions that would each become a CUDA graph; 0 where inductor does not partition.
    """

    kernels: Mapping[str, str]
    launches: Mapping[str, int]
    external: tuple[ExternalCall, ...]
    by_value: frozenset[str]
    partitions: int


def read_wrapper(source: str) -> Wrapper:
    """Parse the generated wrapper of one graph; `SyntaxError` if it is not Python."""
    kernels: dict[str, str] = {}
    launches: collections.Counter[str] = collections.Counter()
    external: list[ExternalCall] = []
    by_value: set[str] = set()
    partitions = 0
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.FunctionDef):
            partitions += statement.name.startswith("partition_")
        if not isinstance(statement, ast.Assign | ast.Expr) or not isinstance(statement.value, ast.Call):
            continue
        call = statement.value
        function = ast.unparse(call.func)
        if function == "async_compile.triton" and isinstance(statement, ast.Assign):
            kernels[ast.unparse(statement.targets[0])] = ast.literal_eval(call.args[1])
        elif function.endswith(".run"):
            launches[function.removesuffix(".run")] += 1
            by_value.update(
                ast.unparse(argument.func.value)
                for argument in call.args
                if isinstance(argument, ast.Call)
                and isinstance(argument.func, ast.Attribute)
                and argument.func.attr == "item"
            )
        elif function.startswith(("extern_kernels.", "torch.ops.", "aten.")):
            external.append(ExternalCall(function=function, output=_output(statement, call)))
    return Wrapper(
        kernels=kernels,
        launches=launches,
        external=tuple(external),
        by_value=frozenset(by_value),
        partitions=partitions,
    )


def _output(statement: ast.Assign | ast.Expr, call: ast.Call) -> str:
    """Return the buffer that is assigned, or given as `out=`, through a view of it; "" if there is none."""
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    for keyword in call.keywords:
        if keyword.arg == "out":
            return next(
                node.id for node in ast.walk(keyword.value) if isinstance(node, ast.Name) and "_tensor" not in node.id
            )
    return ""


def kernel_digest(source: str) -> str:
    """Return a digest of a Triton kernel's code: equal for two kernels that do the same under different names.

    It covers the body, its arguments with their types, and the kind and size hints of the launch. Names of kernels, comments,
    the order in which variables are numbered, and what inductor notes for itself (hashes, versions) do not change it.
    """
    function = next(node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    launch = ""
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call):
            keywords = {keyword.arg: keyword.value for keyword in decorator.keywords}
            hints = [ast.unparse(keywords[name]) for name in ("size_hints", "reduction_hint") if name in keywords]
            launch = " ".join([ast.unparse(decorator.func), *hints, _signature(keywords.get("triton_meta"))])
    function.name, function.decorator_list = "kernel", []
    return hashlib.sha256(f"{launch}\n{_renumbered(ast.unparse(function))}".encode()).hexdigest()[:16]


def _signature(meta: ast.expr | None) -> str:
    """Return the types of a kernel's arguments, as they stand in the metadata for Triton."""
    if isinstance(meta, ast.Dict):
        for key, value in zip(meta.keys, meta.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "signature":
                return ast.unparse(value)
    return ""


def _renumbered(body: str) -> str:
    """Number the temporary variables by their first appearance."""
    numbers: dict[str, str] = {}

    def renumber(match: re.Match[str]) -> str:
        prefix = match[1]
        if match[0] not in numbers:
            numbers[match[0]] = f"{prefix}{sum(name.startswith(prefix) for name in numbers)}"
        return numbers[match[0]]

    return re.sub(rf"\b{_NUMBERED.pattern}\b", renumber, body)
