"""The same random numbers for every row of a batch, so that rows do not depend on each other."""

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class SharedNoise(TorchFunctionMode):
    """Inside the block torch.rand and torch.randn draw one row, and give it to all rows."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function not in (torch.rand, torch.randn):
            return function(*args, **(kwargs or {}))
        rows, *rest = args[0]
        return function((1, *rest), *args[1:], **(kwargs or {})).expand(rows, *rest)
