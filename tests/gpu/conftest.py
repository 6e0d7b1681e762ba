"""What only a GPU can show. The kernels' own tests lie in tests/ops and run on a GPU too where there is one."""

import pytest
import torch


@pytest.fixture(scope="session")
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA GPU here")
    return torch.device("cuda", torch.cuda.current_device())
