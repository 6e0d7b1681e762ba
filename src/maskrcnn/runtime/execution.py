"""How a function of tensors runs: line by line, compiled, or as one recorded graph that the device replays alone.

Static shapes make this possible: nothing in a step or a prediction asks the device for a number, so a recording of its
kernels is the whole of it. The CPU then does two things per step: copy the arguments to where the recording
expects them, and say go.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from maskrcnn import config

Execution = Literal["eager", "captured", "compiled"]

MOST_GRAPHS = 16
"""Recordings kept of one function, and shapes compiled for it: twice the buckets of most recipes."""

T = TypeVar("T")


def choose_execution(setting: config.Execution, device: torch.device, name: str) -> Execution:
    """`auto` compiles where there is a GPU. Raises ValueError, naming the setting, for what the device cannot do."""
    if setting == "auto":
        return "compiled" if device.type == "cuda" else "eager"
    if setting == "captured" and device.type != "cuda":
        raise ValueError(
            f"{name}: captured needs a CUDA GPU, since only there graphs are recorded, and this runs on {device.type}; "
            "set it to eager, or to compiled if there is a C++ compiler"
        )
    return setting


def choose_algorithms(device: torch.device, *, deterministic: bool = False) -> None:
    """Which of a GPU's algorithms torch takes: the fastest for each shape, or those that repeat their bits."""
    if device.type != "cuda":
        return
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without which cuBLAS adds in any order
        torch.use_deterministic_algorithms(True, warn_only=True)
    # An evaluation in the middle of a deterministic run leaves that as it is.
    torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()


def is_recorded(execution: Execution, device: torch.device) -> bool:
    """Whether graphs are recorded: then what changes between steps has to lie on the device."""
    return execution != "eager" and device.type == "cuda"


class CompilationError(ValueError):
    """A function could not be compiled."""


def compiled(function: Callable[..., T]) -> Callable[..., T]:
    """The function as fused kernels, made anew for each combination of shapes; refuses to leave its one graph."""
    fused = torch.compile(function, fullgraph=True, dynamic=False)

    def call(*arguments: Any) -> T:
        try:
            with torch._dynamo.config.patch(recompile_limit=MOST_GRAPHS):
                return fused(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().partition("\n")[0]
            raise CompilationError(
                f"this machine does not compile it ({type(error).__name__}: {reason}); install a C++ compiler, which "
                "CXX names, or set train.execution and evaluate.execution to eager; MASKRCNN_DEBUG=1 shows all of it"
            ) from error

    return call


def executed(function: Callable[..., T], execution: Execution, device: torch.device) -> Callable[..., T]:
    """The function in the way that `execution` says; on a GPU its results hold until the next call, see `Captured`."""
    choose_algorithms(device)
    runs = compiled(function) if execution == "compiled" else function
    return Captured(runs, CudaRecorder(device)) if is_recorded(execution, device) else runs


@runtime_checkable
class Recorder(Protocol):
    """Where recordings are made."""

    def run(self, function: Callable[[], T]) -> T:
        """Call it as it is, where recordings are made."""
        ...

    def record(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        """Record a function; gives its results, not computed yet, and what computes them anew at the same addresses."""
        ...


class CudaRecorder:
    """Records CUDA graphs, all in one pool of memory: they replay one after the other, never side by side."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, function: Callable[[], T]) -> T:
        # On the stream of the recordings: autograd remembers where a weight's gradient was first added up.
        outer = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outer)
        with torch.cuda.stream(self._stream):
            results = function()
        outer.wait_stream(self._stream)
        return results

    def record(self, function: Callable[[], T]) -> tuple[T, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        # Thread by thread: the loader's threads pin memory at any time, which must not break a recording.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results = function()
        return results, graph.replay


class Recording(NamedTuple):
    """One function at one combination of shapes."""

    inputs: list[Tensor | None]
    results: Any
    replay: Callable[[], None]


class Captured(Generic[T]):
    """A function that is replayed, one recording for each combination of its arguments' shapes.

    The first call with new shapes runs line by line: libraries choose their algorithms, compilers compile, and state
    that is made lazily comes to be. The second is recorded, so that rare shapes never are; from then on a call copies
    its arguments, tensors or None in any nesting of tuples and lists, to the recording's and replays it.
    Results live in the recording's memory: the next call, of whatever shapes, overwrites them.
    Of more than `MOST_GRAPHS` combinations the one that was not used for longest is forgotten.
    """

    def __init__(self, function: Callable[..., T], recorder: Recorder) -> None:
        self._function, self._recorder = function, recorder
        self._recordings: OrderedDict[Any, Recording | None] = OrderedDict()

    def __call__(self, *arguments: Any) -> T:
        tensors, structure = tree_flatten(arguments)
        key = _key(tensors, structure)
        if key not in self._recordings:
            self._remember(key, None)
            return self._recorder.run(lambda: self._function(*arguments))
        recording = self._recordings[key]
        if recording is None:
            recording = self._record(tensors, structure)
        self._remember(key, recording)
        for own, given in zip(recording.inputs, tensors, strict=True):
            if own is not None:
                own.copy_(given, non_blocking=True)
        recording.replay()
        results: T = recording.results
        return results

    def has_recorded(self, *arguments: Any) -> bool:
        """Whether a call with these arguments is only a replay."""
        return self._recordings.get(_key(*tree_flatten(arguments))) is not None

    def _record(self, tensors: list[Any], structure: TreeSpec) -> Recording:
        inputs = [None if tensor is None else torch.empty_like(tensor).copy_(tensor) for tensor in tensors]
        arguments = tree_unflatten(inputs, structure)
        return Recording(inputs, *self._recorder.record(lambda: self._function(*arguments)))

    def _remember(self, key: Any, recording: Recording | None) -> None:
        self._recordings[key] = recording
        self._recordings.move_to_end(key)
        if len(self._recordings) > MOST_GRAPHS:
            self._recordings.popitem(last=False)


def _key(tensors: list[Any], structure: TreeSpec) -> Any:
    """What decides whether arguments fit a recording."""
    return structure, tuple(
        tensor if tensor is None else (tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors
    )


class HostCopy(NamedTuple):
    """Tensors that are being copied to the host."""

    tensors: Any
    copied: torch.cuda.Event | None

    def wait(self) -> Any:
        """The tensors, once the copy is complete."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.tensors


def to_host(group: tuple[Tensor, ...], device: torch.device) -> HostCopy:
    """Begin to copy a named tuple of tensors; on a GPU into page-locked memory, so that the device can go on."""
    if device.type != "cuda":
        return HostCopy(tree_map(lambda tensor: tensor.to("cpu"), group), None)
    host = tree_map(lambda tensor: torch.empty_like(tensor, device="cpu", pin_memory=True), group)
    for target, tensor in zip(host, group, strict=True):
        target.copy_(tensor, non_blocking=True)
    return HostCopy(host, torch.cuda.current_stream(device).record_event())
