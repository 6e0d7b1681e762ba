"""Work that a thread does while training goes on: steps wait only for a copy of the tensors on the host."""

from collections.abc import Callable, Mapping
from threading import Thread

import torch
from torch import Tensor

from maskrcnn.runtime.execution import HostCopy

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by name, in groups by name."""


class Background:
    """One task at a time in a thread. Used as a context, its end waits for the last one.

    An error in a task is raised where the next one begins or where it is waited for; where another error ends the
    context, it is only said.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def begin(self, task: Callable[[], object]) -> None:
        """Start a task, when the last one is done. Raises what that raised."""
        self.wait()
        self._thread = Thread(target=self._run, args=(task,), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is on its way. Raises what the last task raised, once."""
        self.settle()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def settle(self) -> None:
        """Return when nothing is on its way; an error is kept for later."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.wait()
            return
        self.settle()
        if self._error is not None:
            self._say(f"the last checkpoint was not written: {self._error}")

    def _run(self, task: Callable[[], object]) -> None:
        try:
            task()
        except Exception as error:  # whatever it is, the thread that trains raises it
            self._error = error


class HostMemory:
    """Copies tensors to the host, each time into the same memory, which is page-locked for those of a GPU."""

    def __init__(self) -> None:
        self._copies: dict[tuple[str, str], Tensor] = {}

    def copy(self, groups: Groups, device: torch.device) -> HostCopy:
        """Begin to copy; the copies hold until the next call, and whoever needs them waits first."""
        taken = {
            group: {name: self._copy((group, name), tensor.detach()) for name, tensor in tensors.items()}
            for group, tensors in groups.items()
        }
        on_gpu = device.type == "cuda"
        return HostCopy(taken, torch.cuda.current_stream(device).record_event() if on_gpu else None)

    def _copy(self, name: tuple[str, str], tensor: Tensor) -> Tensor:
        own = self._copies.get(name)
        if own is None or (own.shape, own.dtype, own.stride()) != (tensor.shape, tensor.dtype, tensor.stride()):
            own = self._copies[name] = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        return own.copy_(tensor, non_blocking=tensor.is_cuda)
