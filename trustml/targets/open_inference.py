"""The target `open_inference`: a model behind the Open Inference Protocol, version 2."""

import hashlib
import json
import math
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput, MethodFailed
from trustml.registry import target
from trustml.targets._batches import asked, taken
from trustml.targets._face import Found, target_of, trials
from trustml.targets._http import Client, opening
from trustml.targets._inputs import Declared
from trustml.targets._manner import Manner

_FLOATS, _WHOLE = ("FP32", "FP64", "FP16"), ("UINT8",)
_LABELS = ("BYTES", "BOOL", "INT", "UINT")
# MLServer answers labels unless it is asked for these.
_PROBABILITIES = "predict_proba"


@target(
    source="KServe Open Inference Protocol v2, REST (kserve/open-inference-protocol)",
    takes="url",
    looks=(r"https?://.+/v2/models/[^/]+(/versions/[^/]+)?/?",),
)
def open_inference(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    url: str = "",
    output: str | None = None,
    timeout: float = 30.0,
    batch: int = 16,
    workers: int = 4,
    rate: float = 0.0,
    budget: int = 0,
    key_env: str | None = None,
) -> Target:
    """A model of KServe, Triton, MLServer or OpenVINO: `http://host:port/v2/models/NAME`.

    `output` names the output with the scores where there are several. Of a model that answers
    labels, `predict_proba` is asked for first.

    Raises:
        BadInput: no such server or model, or answers that are none of a classifier.
    """
    manner = Manner(timeout, batch, workers, rate, budget, key_env)
    with opening():
        client = Client(url.rstrip("/"), manner)
        told = _metadata(client)
        given = _input(told, client.url)
        served = _Served(client, given, output)
        shape = _shape(given, client.url)
        found = Found(
            served, f"Open Inference model {client.url}", _digest(client, told), shape, remote=True
        )
        found = taken(found, client, domain, interface)
        if output is None:
            found = _with_most(found, served, domain, interface)
        return target_of(found, domain, interface)


class _Served:
    """Inputs → the served model's scores or labels."""

    def __init__(self, client: Client, given: dict[str, Any], output: str | None) -> None:
        self.client, self.given, self.output = client, given, output

    def __call__(self, x: Tensor) -> Any:
        """Return scores (B, K), or labels."""
        return asked(self.client, x, self._one)

    def _one(self, x: Tensor) -> Any:
        # A server that declares no type takes what it is given, in the precision of who asks.
        kind = self.given["datatype"] or ("FP64" if x.dtype == torch.float64 else "FP32")
        data = x
        if kind in _WHOLE:
            data = x.round().clamp(0, 255).to(torch.uint8)
        elif kind != "FP64":
            data = x.float()
        tensor = {
            "name": self.given["name"], "shape": list(x.shape), "datatype": kind,
            "data": data.flatten().tolist(),
        }  # fmt: skip
        asked: dict[str, Any] = {"inputs": [tensor]}
        if self.output:
            asked["outputs"] = [{"name": self.output}]
        answer = self.client.post(asked, f"{self.client.url}/infer")
        return _read(answer, len(x), self.output, self.client.url)


def _read(answer: Any, count: int, wanted: str | None, url: str) -> Any:
    """Return the scores or labels in an answer.

    Raises:
        MethodFailed: there are none, or not for so many inputs.
    """
    outputs = answer.get("outputs") if isinstance(answer, dict) else None
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise MethodFailed(f"{url} answers without outputs: {str(answer)[:200]}")
    names = [str(one.get("name")) for one in outputs]
    if wanted is not None:
        outputs = [one for one in outputs if one.get("name") == wanted]
    scores = [one for one in outputs if one.get("datatype") in _FLOATS]
    if len(scores) > 1 or not outputs:
        raise MethodFailed(f"{url} answers {', '.join(names) or 'nothing'}: say output=NAME")
    one = (scores or outputs)[0]
    kind, data, shape = str(one.get("datatype")), _flat(one.get("data")), one.get("shape")
    if not isinstance(shape, list) or not shape or math.prod(shape) != len(data):
        raise MethodFailed(f"{url}: output {one.get('name')} has {len(data)} values for {shape}")
    if shape[0] != count:
        raise MethodFailed(f"{url} gives {shape[0]} answers to {count} inputs")
    if kind in _FLOATS:
        return _numbers(data, shape, url)
    if not kind.startswith(_LABELS) or len(data) != count:
        raise MethodFailed(
            f"{url}: output {one.get('name')} is {kind} {shape}, no scores or labels"
        )
    return [label if isinstance(label, str) else int(label) for label in data]


def _numbers(data: list[Any], shape: list[int], url: str) -> Tensor:
    try:
        scores = torch.tensor(data, dtype=torch.float64).view(shape)
    except (ValueError, TypeError, RuntimeError) as error:
        raise MethodFailed(f"{url} answers values that are no numbers ({error})") from error
    if not bool(scores.isfinite().all()):
        raise MethodFailed(f"{url} answers NaN or infinity")
    return scores


def _flat(data: Any) -> list[Any]:
    """Return the values in row-major order; servers nest them or not."""
    if not isinstance(data, list):
        return [data]
    return [value for part in data for value in _flat(part)]


def _metadata(client: Client) -> dict[str, Any]:
    told = client.get(client.url)
    if not isinstance(told, dict):
        raise BadInput(f"{client.url} does not describe a model: {str(told)[:100]}")
    return told


def _input(told: dict[str, Any], url: str) -> dict[str, Any]:
    """Return name, type and shape of the model's input; a server may leave them out."""
    inputs = told.get("inputs") or [{"name": "input-0", "datatype": None}]
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadInput(f"{url} takes the inputs {str(inputs)[:200]}: a classifier takes one")
    found = {"name": "input-0", "datatype": None, **inputs[0]}
    if found["datatype"] not in (None, *_FLOATS, *_WHOLE):
        raise BadInput(f"{url} takes {found['datatype']}; only numbers can be attacked")
    return found


def _shape(given: dict[str, Any], url: str) -> Declared | None:
    """Return the shape of one input, without the batch."""
    shape = given.get("shape")
    if not shape:
        return None
    if not isinstance(shape, list) or not all(isinstance(size, int) for size in shape):
        raise BadInput(f"{url} describes its input's shape as {shape}")
    return tuple(size if size > 0 else None for size in shape[1:])


def _with_most(found: Found, served: _Served, domain: Domain | None, interface: Interface) -> Found:
    """Return the model asked for its probabilities, if it answers labels and has some."""
    x = trials(found, domain, interface)[:1]
    if isinstance(served(x), Tensor) or interface.answers == "labels":
        return found
    served.output = _PROBABILITIES
    with served.client.hurried(), suppress(MethodFailed):  # where it has none
        if isinstance(served(x), Tensor):
            return found
    served.output = None
    return found


def _digest(client: Client, told: dict[str, Any]) -> str:
    """Return the SHA-256 of the address and of what the server says of the model."""
    said = json.dumps([client.url, told], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
