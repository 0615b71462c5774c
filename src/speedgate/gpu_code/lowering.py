"""Generate the code that torch.compile would run on a GPU, on a machine without one. It needs a CUDA build of torch.

This is the only module of the project that reaches into private parts of torch and Triton, to generate code without a device.
Tried with torch 2.11.0 (Triton 3.6.0), 2.12.1 (3.7.1) and 2.14.1 (3.8.0). `REACHES` lists every attribute that is replaced or
read. `check` looks for all of them first, and what no longer fits raises `StubDoesNotFit`: the result is unknown, never a pass.

What needs a device to time kernels is switched off (`WITHOUT_TIMING`); every other option of a stage is kept. So a template
that max-autotune or coordinate descent would choose is not seen: products stay external kernels, as in the default mode.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import importlib
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from speedgate.gpu_code.attention import attend
from speedgate.gpu_code.targets import Target
from speedgate.gpu_code.work import Work, counting_work
from speedgate.gpu_code.wrapper import kernel_digest, read_wrapper
from speedgate.results.json_io import decode, read_json, write_json

# Options of inductor that would time kernels on the device while code is generated. `deterministic` is documented to skip
# every timing, `shape_padding` times products that are padded, and a constant is folded by computing it on the device.
WITHOUT_TIMING: Mapping[str, Any] = {
    "max_autotune": False,
    "max_autotune_gemm": False,
    "max_autotune_pointwise": False,
    "deterministic": True,
    "shape_padding": False,
    "joint_graph_constant_folding": False,
    "fx_graph_cache": False,
    "fx_graph_remote_cache": False,
}
_ATTENTION = "_scaled_dot_product_"
_REFUSED_ROWS = 16  # cuBLAS multiplies no int8 matrix with so few rows, such as those of a time embedding


class StubDoesNotFit(Exception):
    """Code cannot be generated, because this build or version of torch is not as expected; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Reach:
    """An attribute of a private part that this module replaces or calls, and why."""

    module: str
    attribute: str
    why: str


# The module, its attributes, and why they are replaced or called.
_ROWS = (
    (
        "torch.cuda",
        "get_device_properties get_device_capability get_device_name device_count current_device is_bf16_supported",
        "it asks the driver",
    ),
    ("torch.cuda", "_exchange_device _maybe_exchange_device set_device", "it asks the driver"),
    (
        "torch.cuda",
        "is_available is_initialized _lazy_init synchronize get_rng_state set_rng_state",
        "it would make a CUDA context",
    ),
    ("torch.cuda.random", "_lazy_init get_rng_state set_rng_state", "it would make a CUDA context"),
    ("torch._subclasses.fake_tensor", "init_gpu_context", "it would make a CUDA context"),
    ("torch._subclasses.fake_tensor", "FakeTensorMode", "weights and inputs are fake CUDA tensors"),
    ("torch.nn", "Module._apply", "it swaps tensors, which torch refuses for fake parameters"),
    ("torch.utils._triton", "has_triton", "its cached answers depend on is_available"),
    ("triton.runtime", "driver.set_active driver._active", "Triton asks its active driver for the target"),
    ("triton.backends.compiler", "GPUTarget", "Triton's own record of a target"),
    (
        "torch._inductor.fx_passes.joint_graph",
        "lazy_init",
        "its patterns make constants on the device, if there is one",
    ),
    ("torch._inductor.compile_fx", "compile_fx", "the backend of torch.compile"),
    (
        "torch._inductor.graph",
        "GraphLowering.compile_to_module GraphLowering.codegen",
        "the generated code is taken instead of loaded",
    ),
    ("torch._inductor.codegen.triton", "TritonScheduling.define_kernel", "tells which nodes became which kernel"),
    ("torch._inductor.scheduler", "BaseSchedulerNode.get_read_write_buffers_sizes", "inductor's count of bytes"),
    ("torch._inductor.ir", "DeviceCopy ExternKernel", "copies between devices, and kernels that are called"),
    ("torch._inductor.cudagraph_utils", "cudagraphs_log", "inductor says there why CUDA graphs are skipped"),
    ("torch._inductor.codecache", "PyCodeCache.load", "loads the source of a kernel"),
    (
        "torch._inductor.runtime.triton_heuristics",
        "CachingAutotuner.precompile NoTritonConfigsError",
        "compiles a kernel",
    ),
    ("torch._inductor.runtime.triton_helpers", "set_driver_to_gpu", "it would look for a driver"),
    ("torch", "_int_mm", "it refuses few rows on a GPU"),
    ("torch._inductor.select_algorithm", "extern_kernels._int_mm", "generated code calls it by this name"),
    ("torch._inductor.config", "compile_threads", "nothing is compiled in other processes"),
    ("torch._inductor.config", "use_static_triton_launcher", "it would load the machine code onto the device"),
    ("torch._functorch.config", "enable_autograd_cache", "a cached graph would not be generated"),
    ("torch._inductor.config", " ".join(WITHOUT_TIMING), "it would time kernels, or load code from a cache"),
)
REACHES = tuple(Reach(module, name, why) for module, names, why in _ROWS for name in names.split())


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphCode:
    """The generated code of one graph; `nodes_bytes` maps a kernel to the bytes that its launches move in one call."""

    source: str
    kernels: Mapping[str, str]
    launches: Mapping[str, int]
    nodes_bytes: Mapping[str, int]
    external: Mapping[str, int]
    fallbacks: Mapping[str, int]
    device_copies: int
    cpu_tensors: int
    cpu_scalars: int
    moved_bytes: int
    partitions: int


@dataclasses.dataclass
class Graph:
    """A graph that torch.compile handed to its backend: its code, and its eager `work` in one run.

    `runs` counts how often it ran since, and `inputs` has the identities of its inputs: the parameters that it reads too.
    """

    code: GraphCode
    skips: tuple[str, ...] = ()
    runs: int = 0
    work: Work = dataclasses.field(default_factory=Work)
    inputs: frozenset[int] = frozenset()


def cuda_build_needed() -> str | None:
    """Return the line that says which build of torch is needed; None if this one is a CUDA build."""
    import torch

    if torch.version.cuda is not None:
        return None
    return f"--gpu-code needs torch built for CUDA (a GPU is not needed); this is torch {torch.__version__}"


def check(modules: Callable[[str], Any] = importlib.import_module) -> None:
    """Look for each of `REACHES`; raise `StubDoesNotFit` that names the first one missing."""
    for reach in REACHES:
        try:
            functools.reduce(getattr, reach.attribute.split("."), modules(reach.module))
        except (ImportError, AttributeError) as error:
            raise StubDoesNotFit(
                f"{reach.module}.{reach.attribute} is missing in this version of torch or Triton ({reach.why})"
            ) from error


class Lowering:
    """A `with` block in which fake CUDA tensors can be made and `torch.compile` generates code for `target`.

    `mode` is the mode in which fake tensors are made, and `graphs` lists the graphs that were compiled. A compiled callable
    returns fake tensors. Raises `StubDoesNotFit` on a CPU build, and where torch is not as expected.
    """

    is_fake = True

    def __init__(self, target: Target) -> None:
        if (needed := cuda_build_needed()) is not None:
            raise StubDoesNotFit(needed)
        self.target = target
        self.graphs: list[Graph] = []
        self._stack = contextlib.ExitStack()
        self._kernel_of_node: dict[str, str] = {}
        self._code: GraphCode | None = None
        self._compiling = self._present = False

    def __enter__(self) -> Lowering:
        import torch
        from torch._inductor import config
        from torch._subclasses.fake_tensor import FakeTensorMode

        with contextlib.ExitStack() as stack:
            # First, because inductor starts its processes when it is imported.
            stack.enter_context(config.patch(compile_threads=1))
            check()
            for module, name, value in self._replacements():
                stack.enter_context(mock.patch.object(module, name, value, create=True))
            stack.enter_context(_triton_driver(self.target))
            stack.enter_context(_forgetting_triton())
            stack.enter_context(_attention(self.target.capability))
            stack.enter_context(torch._functorch.config.patch(enable_autograd_cache=False))
            self.mode = FakeTensorMode()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        import torch

        torch.compiler.reset()
        self._stack.close()

    @contextlib.contextmanager
    def device_present(self) -> Iterator[None]:
        """Let code ask in this block whether there is a GPU, as torchao does before it quantises to float8.

        Outside of it and of inductor there is none: torch would make constants of a traced function on it.
        """
        self._present = True
        try:
            yield
        finally:
            self._present = False

    def _replacements(self) -> Iterator[tuple[Any, str, Any]]:
        import torch
        from torch._subclasses import fake_tensor

        cuda, target = torch.cuda, self.target
        properties, state = device_properties(target), torch.zeros(16, dtype=torch.uint8)
        yield cuda, "is_available", lambda: self._compiling or self._present
        for name, value in {
            "get_device_properties": properties,
            "_get_device_properties": properties,  # not there before CUDA is initialised
            "get_device_capability": target.capability,
            "get_device_name": target.gpu,
            "device_count": 1,
            "current_device": 0,
            "is_initialized": False,
            "_lazy_init": None,
            "synchronize": None,
            "is_bf16_supported": True,
            "_exchange_device": 0,
            "_maybe_exchange_device": 0,
            "set_device": None,
        }.items():
            yield cuda, name, _returning(value)
        for module in (cuda, cuda.random):
            yield module, "get_rng_state", _returning(state)
            yield module, "set_rng_state", _returning(None)
        yield cuda.random, "_lazy_init", _returning(None)
        yield torch.nn.Module, "_apply", _convert
        yield fake_tensor, "init_gpu_context", _returning(None)
        yield from self._hooks()

    def _hooks(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield the replacements that capture the generated code, with or without a GPU."""
        from torch._inductor import compile_fx, cudagraph_utils
        from torch._inductor.codegen.triton import TritonScheduling
        from torch._inductor.graph import GraphLowering

        self._compile_to_module = GraphLowering.compile_to_module
        yield compile_fx, "compile_fx", functools.partial(self._compile, compile_fx.compile_fx)
        yield cudagraph_utils, "cudagraphs_log", _SkipLog(self, cudagraph_utils.cudagraphs_log)
        yield GraphLowering, "compile_to_module", lambda graph: self._take(graph)
        yield TritonScheduling, "define_kernel", self._noting_nodes(TritonScheduling.define_kernel)

    def _noting_nodes(self, define_kernel: Callable[..., str]) -> Callable[..., str]:
        @functools.wraps(define_kernel)
        def noting(scheduling: Any, src_code: str, node_schedule: Any, *args: Any) -> str:
            kernel = define_kernel(scheduling, src_code, node_schedule, *args)
            for node in node_schedule:
                if hasattr(node, "get_name"):
                    self._kernel_of_node[node.get_name()] = kernel
            return kernel

        return noting

    def _compile(
        self, compile_fx: Callable[..., Any], graph_module: Any, inputs: Any, *args: Any, **keywords: Any
    ) -> Any:
        """Stand for `compile_fx`: generate the code, then return a function that runs the graph on fake tensors."""
        import torch
        from torch._inductor import config
        from torch._inductor.fx_passes import joint_graph

        if self._compiling:  # compile_fx calls itself
            return compile_fx(graph_module, inputs, *args, **keywords)
        copy = torch.fx.Graph()
        copy.output(copy.graph_copy(graph_module.graph, {}))
        eager = torch.fx.GraphModule(graph_module, copy)  # compile_fx changes the one that it gets
        joint_graph.lazy_init(torch.device("cuda", 0))
        self._skips: list[str] = []
        self._compiling = True
        _forget_triton()
        try:
            options = {**(keywords.pop("config_patches", None) or {}), **WITHOUT_TIMING}
            with config.patch(WITHOUT_TIMING):
                compiled = compile_fx(graph_module, inputs, *args, config_patches=options, **keywords)
        finally:
            self._compiling = False
            _forget_triton()
        if self._code is None:
            raise StubDoesNotFit("torch.compile generated no code (GraphLowering.compile_to_module was not called)")
        if options.get("triton.cudagraphs") and self._code.partitions > 1:
            self._skips.append(f"{self._code.partitions} CUDA graphs in place of one, with other work between them")
        graph = Graph(self._code, skips=tuple(self._skips))
        self._code = None
        self.graphs.append(graph)

        def run(*values: Any) -> Any:
            graph.runs += 1
            if graph.runs == 1:
                with counting_work() as work:
                    output = eager(*values)
                graph.work, graph.inputs = work, frozenset(map(id, values))
                if self.is_fake:
                    return output
            return eager(*values) if self.is_fake else compiled(*values)

        return run

    def _take(self, graph: Any) -> Any:
        """Replace `GraphLowering.compile_to_module`: generate the code and read it. It is not loaded: there is no GPU."""
        self._kernel_of_node.clear()
        code = graph.codegen()
        self._code = _graph_code(getattr(code[0], "value", code[0]), graph, self._kernel_of_node)
        if self.is_fake:
            return _NoModule()
        graph.codegen = lambda: code  # `compile_to_module` asks for the code again
        return self._compile_to_module(graph)


class Observing(Lowering):
    """A `with` block on a machine with a GPU, in which `torch.compile` works as always and its code is taken as by `Lowering`.

    Nothing of the device is replaced, tensors are real and the code is run, so it shows whether the stubs say the truth. Only the
    options that time kernels stay off. So an int8 product of few rows goes to cuBLAS, which refuses it, and gets more rows here.
    Raises `StubDoesNotFit` without a GPU, and on another one than the target.
    """

    is_fake = False

    def __init__(self, target: Target) -> None:
        import torch

        super().__init__(target)
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
        if gpu != target.gpu:
            raise StubDoesNotFit(f"--device cuda needs the GPU of the target, {target.gpu}; here is {gpu}")

    def __enter__(self) -> Observing:
        import torch

        with contextlib.ExitStack() as stack:
            from torch._inductor.select_algorithm import extern_kernels

            check()
            enough_rows = with_enough_rows(torch._int_mm)
            products = ((module, "_int_mm", enough_rows) for module in (torch, extern_kernels))
            for module, name, value in (*self._hooks(), *products):
                stack.enter_context(mock.patch.object(module, name, value, create=True))
            stack.enter_context(torch._functorch.config.patch(enable_autograd_cache=False))
            self.mode = contextlib.nullcontext()
            self._stack = stack.pop_all()
        return self


def with_enough_rows(int_mm: Callable[..., Any]) -> Callable[..., Any]:
    """Return an int8 product that gives cuBLAS the rows that it asks for, and returns those that were asked for.

    Of tensors without numbers, by which a graph is traced, the product stays as it is: it decides about the code.
    """
    import torch

    def padded(left: Any, right: Any, **out: Any) -> Any:
        missing = max(_REFUSED_ROWS + 1 - len(left), 0)
        if not missing or type(left) is not torch.Tensor:
            return int_mm(left, right, **out)
        product = int_mm(torch.nn.functional.pad(left, (0, 0, 0, missing)), right)[: len(left)]
        return out["out"].copy_(product) if out else product.contiguous()

    return padded


class _NoModule:
    """Stands for the module of generated code, which is never run, and for the runner of its partitions."""

    def __init__(self) -> None:
        self.partitions: list[Any] = []  # deleted with the graph

    @property
    def runner(self) -> _NoModule:
        """The object that holds the partitions, each of which would become a CUDA graph."""
        return self

    def call(self, *_: Any) -> None:
        """Do nothing."""

    def recursively_apply_fns(self, functions: Any) -> None:
        """Do nothing."""


class _SkipLog:
    """Collects the reasons for which inductor skips CUDA graphs."""

    def __init__(self, lowering: Lowering, log: Any) -> None:
        self._lowering, self._log = lowering, log

    def warning(self, message: str, *args: Any) -> None:
        """Keep a reason."""
        self._lowering._skips.append(str(message) % args if args else str(message))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def _graph_code(source: str, graph: Any, kernel_of_node: Mapping[str, str]) -> GraphCode:
    from torch._inductor import ir

    wrapper = read_wrapper(source)
    moved, by_kernel, dtypes = 0, collections.Counter[str](), {}
    inputs = [name for name, value in graph.graph_inputs.items() if _on_cpu(value)]
    scalars = sum(name in wrapper.by_value for name in inputs)
    copies, cpu = 0, len(inputs) - scalars
    for node in graph.scheduler.nodes:
        moved_bytes = int(node.get_read_write_buffers_sizes())
        moved += moved_bytes
        kernels = {kernel_of_node[name] for name in _names(node) if name in kernel_of_node}
        if kernels:
            by_kernel[sorted(kernels)[0]] += moved_bytes
        inner = getattr(node, "node", None)
        copies += isinstance(inner, ir.DeviceCopy)
        device = node.get_device()
        cpu += device is not None and device.type == "cpu"
        if isinstance(inner, ir.ExternKernel):
            dtypes[inner.get_name()] = _dtype(inner)
    defined, launched = set(wrapper.kernels), set(wrapper.launches)
    if defined != launched or not launched <= set(by_kernel):
        odd = sorted((defined ^ launched) | (launched - set(by_kernel)))
        raise StubDoesNotFit(
            f"the generated code is not read in full: {', '.join(odd[:3])} have no definition, launch or node"
        )
    external, fallbacks = collections.Counter[str](), collections.Counter[str]()
    for call in wrapper.external:
        kind, name = _operation(call.function)
        key = f"{name} {dtypes.get(call.output, 'unknown')}"
        (external if kind == "external" else fallbacks)[key] += 1
    return GraphCode(
        source=source,
        kernels=wrapper.kernels,
        launches=wrapper.launches,
        nodes_bytes=by_kernel,
        external=external,
        fallbacks=fallbacks,
        device_copies=copies,
        cpu_tensors=cpu,
        cpu_scalars=scalars,
        moved_bytes=moved,
        partitions=wrapper.partitions,
    )


def _names(node: Any) -> Iterator[str]:
    """Yield the names of the nodes that were fused into one."""
    for inner in node.get_nodes():
        yield inner.get_name()


def _dtype(kernel: Any) -> str:
    """Return the dtype of an external kernel's first input that is a tensor; a node of several tensors has none."""
    for node in kernel.inputs:
        with contextlib.suppress(NotImplementedError):
            return str(node.get_dtype()).removeprefix("torch.")
    return "unknown"


def _on_cpu(value: Any) -> bool:
    device = value.get_device() if hasattr(value, "get_device") else None
    return device is not None and device.type == "cpu"


def _operation(function: str) -> tuple[str, str]:
    """Return "external" or "fallback", and the operation's name: a fallback is an aten operator that is neither attention nor
    a kernel that inductor calls by design.
    """
    if function.startswith("extern_kernels."):
        return "external", function.removeprefix("extern_kernels.")
    parts = function.removeprefix("torch.ops.").split(".")
    name = parts[1]
    if name.startswith(_ATTENTION):
        return "external", name.removeprefix(_ATTENTION)
    if name in ("convolution", "_int_mm", "_scaled_mm", "mm", "addmm", "bmm"):
        return "external", name
    return "fallback", ".".join(parts[:2])


def digests(graph: GraphCode) -> dict[str, str]:
    """Return the digest of each kernel's normalised source."""
    return {name: kernel_digest(source) for name, source in graph.kernels.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachineCode:
    """The resources that a kernel needs: registers and spilled bytes of each thread, and shared memory of each block."""

    registers: int
    spilled_bytes: int
    shared_bytes: int


def machine_code(sources: Mapping[str, str], target: Target, folder: Path) -> dict[str, MachineCode]:
    """Compile Triton kernels, by digest, with the Triton wheel's ptxas, inside of a `Lowering` block.

    A kernel is compiled with the first of its configurations that compiles; on a device inductor would choose by time.
    `folder` keeps the results, by digest, target and versions, so that equal code is compiled once.
    """
    import torch
    import triton

    results = {}
    for digest, source in sources.items():
        path = folder / f"{digest}-{target.name}-torch{torch.__version__}-triton{triton.__version__}.json"
        if path.is_file():
            results[digest] = decode(read_json(path), MachineCode, where=str(path))
        else:
            results[digest] = _compile_kernel(source)
            write_json(path, dataclasses.asdict(results[digest]))
    return results


def _compile_kernel(source: str) -> MachineCode:
    from torch._inductor import config
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.runtime import triton_helpers
    from torch._inductor.runtime.triton_heuristics import CachingAutotuner, NoTritonConfigsError

    with (
        config.patch(use_static_triton_launcher=False),
        mock.patch.object(triton_helpers, "set_driver_to_gpu", _returning(None)),
    ):
        module = PyCodeCache.load(source)
        kernel = next(value for value in vars(module).values() if isinstance(value, CachingAutotuner))
        for configuration in kernel.configs:
            kernel.configs = [configuration]
            with contextlib.suppress(NoTritonConfigsError):  # as on a device, one that does not compile is passed over
                kernel.precompile(warm_cache_only=True)
                break
    if not kernel.compile_results:
        raise StubDoesNotFit("a kernel compiles with none of its configurations")
    binary = kernel.compile_results[0].kernel
    registers, spilled_bytes = read_ptxas(_assemble(binary.asm["ptx"]))
    return MachineCode(registers=registers, spilled_bytes=spilled_bytes, shared_bytes=int(binary.metadata.shared))


def _assemble(ptx: str) -> str:
    """Return what ptxas prints about a kernel: its registers, and the bytes of spills apart from the stack.

    Triton's own count takes the stack for spills; a sine has a table there.
    """
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    architecture = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        arguments = [
            str(tool),
            "-v",
            f"--gpu-name={architecture[1] if architecture else ''}",
            "-o",
            os.devnull,
            file.name,
        ]
        process = subprocess.run(arguments, capture_output=True, text=True)  # noqa: S603
    if process.returncode:
        raise StubDoesNotFit(f"ptxas refuses the code of a kernel: {process.stderr[:200]!r}")
    return process.stderr


def read_ptxas(printed: str) -> tuple[int, int]:
    """Return the registers of a thread, and the bytes that it stores to and loads from memory because registers are short."""
    registers = re.search(r"Used (\d+) registers", printed)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", printed)
    if registers is None or not spills:
        raise StubDoesNotFit(f"ptxas -v printed no registers and spills: {printed[:200]!r}")
    return int(registers[1]), sum(map(int, spills))


def device_properties(target: Target) -> Any:
    """Return what `torch.cuda.get_device_properties` would, as far as inductor reads it."""
    import types

    return types.SimpleNamespace(
        name=target.gpu,
        major=target.capability[0],
        minor=target.capability[1],
        multi_processor_count=target.multiprocessors,
        L2_cache_size=target.l2_bytes,
        shared_memory_per_block=target.shared_bytes_per_block,
        shared_memory_per_block_optin=target.shared_bytes_per_block_optin,
        shared_memory_per_multiprocessor=target.shared_bytes_per_multiprocessor,
        regs_per_multiprocessor=target.registers_per_multiprocessor,
        max_threads_per_multi_processor=target.threads_per_multiprocessor,
        max_threads_per_block=target.threads_per_block,
        warp_size=target.threads_per_warp,
        total_memory=target.memory_bytes,
        gcnArchName="",
    )


def _returning(value: Any) -> Callable[..., Any]:
    """Return a new function of this value: dynamo keys its handlers by functions, so no two names may share one."""
    return lambda *_, **__: value


def _convert(module: Any, function: Callable[[Any], Any], recurse: bool = True) -> Any:
    """Stand for `torch.nn.Module._apply`: replace each parameter and buffer by the converted one."""
    import torch

    for child in module.children() if recurse else ():
        _convert(child, function)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                converted = function(parameter)
            module._parameters[name] = torch.nn.Parameter(converted, requires_grad=parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


@contextlib.contextmanager
def _triton_driver(target: Target) -> Iterator[None]:
    """Let Triton generate for the target."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    class Driver:
        def get_current_target(self) -> Any:
            return GPUTarget("cuda", 10 * target.capability[0] + target.capability[1], target.threads_per_warp)

        def get_current_device(self) -> int:
            return 0

        def get_active_torch_device(self) -> Any:
            return torch.device("cuda", 0)

        def get_device_interface(self) -> Any:
            return torch.cuda

        @staticmethod
        def is_active() -> bool:
            return True

    before = driver._active  # reset_active() would look for a driver, and there is none
    driver.set_active(Driver())
    try:
        yield
    finally:
        driver._active = before


def _forget_triton() -> None:
    import torch.utils._triton

    for function in vars(torch.utils._triton).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


@contextlib.contextmanager
def _forgetting_triton() -> Iterator[None]:
    try:
        yield
    finally:
        _forget_triton()


@contextlib.contextmanager
def _attention(capability: tuple[int, int]) -> Iterator[None]:
    """Choose the attention kernel in Python (see `attention.py`), for CUDA tensors. `torch.library` documents the call."""
    import torch

    library = torch.library.Library("aten", "IMPL")
    library.impl("scaled_dot_product_attention", functools.partial(attend, capability=capability), "AutogradCUDA")
    try:
        yield
    finally:
        library._destroy()
