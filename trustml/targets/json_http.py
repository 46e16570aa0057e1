"""The target `json_http`: any HTTP service, described by a request template in a file."""

import json
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from trustml.contracts import Domain, Interface, Target
from trustml.errors import BadInput, UnknownName
from trustml.registry import target
from trustml.targets._batches import asked, taken
from trustml.targets._face import Found, file_at, file_hash, target_of, trials
from trustml.targets._http import Client, opening
from trustml.targets._json_answers import class_names, found_at, scores_or_labels, steps
from trustml.targets._manner import Manner

_BATCH, _ROW = "$INPUT", "$ROW"


@target(
    source="the REST generator of garak (NVIDIA): a template, a path into the answer",
    takes="path",
    looks=(r".+\.toml", r".+\.json"),
)
def json_http(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    path: str = "",
    timeout: float = 30.0,
    batch: int = 16,
    workers: int = 4,
    rate: float = 0.0,
    budget: int = 0,
) -> Target:
    """A service that takes and answers JSON, described by a .toml or .json file.

    The file holds uri, request (with "$INPUT" where the inputs of a batch go, or "$ROW" where one
    input goes), answer (a path such as $.scores or $.results[*].label), and may hold headers,
    key_env and key_header.

    Raises:
        BadInput: no such file, one that is no template, no such server, or no classifier.
    """
    file = file_at(path)
    template = _template(file)
    manner = Manner(
        timeout, batch if template.batched else 1, workers, rate, budget, template.key_env,
        template.key_header,
    )  # fmt: skip
    with opening():
        client = Client(template.uri, manner, template.headers)
        served = _Served(client, template)
        found = Found(served, f"service {template.uri}", file_hash(file), remote=True)
        found = taken(found, client, domain, interface)
        served(trials(found, domain, interface)[:1])
        found = replace(found, class_names=served.names)
        return target_of(found, domain, interface)


@dataclass(frozen=True, slots=True)
class _Template:
    """What the file says."""

    uri: str
    request: Any
    answer: str
    headers: dict[str, str]
    key_env: str | None = None
    key_header: str = "Authorization"

    @property
    def batched(self) -> bool:
        """Whether a request carries several inputs."""
        return _holds(self.request, _BATCH)


class _Served:
    """Inputs → the service's scores or labels."""

    def __init__(self, client: Client, template: _Template) -> None:
        self.client, self.template = client, template
        self.names: tuple[str, ...] = ()

    def __call__(self, x: Tensor) -> Any:
        """Return scores (B, K), or labels."""
        return asked(self.client, x, self._one)

    def _one(self, x: Tensor) -> Any:
        rows = x.tolist()
        mark, content = (_BATCH, rows) if self.template.batched else (_ROW, rows[0])
        answer = self.client.post(_filled(self.template.request, mark, content))
        found = found_at(answer, self.template.answer)
        found = found if self.template.batched else [found]
        self.names = class_names(found)
        return scores_or_labels(found, len(x), self.client.url)


def _template(file: Path) -> _Template:
    """Return what the file says.

    Raises:
        BadInput: it is no template; the message says what it lacks.
    """
    try:
        text = file.read_text(encoding="utf-8")
        held = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from error
    known = [field.name for field in fields(_Template)]
    if not isinstance(held, dict) or not {"uri", "request", "answer"} <= set(held):
        raise BadInput(
            f"{file} is no request template: it must hold uri, request (with {_BATCH!r} or "
            f"{_ROW!r} in it) and answer, a path such as $.scores"
        )
    for name in held:
        if name not in known:
            raise UnknownName.of(f"word of {file}", name, known)
    template = _Template(**{"headers": {}, **held})
    if _holds(template.request, _BATCH) == _holds(template.request, _ROW):
        raise BadInput(f"{file}: request must hold either {_BATCH!r}, for several inputs, or "
                       f"{_ROW!r}, for one")  # fmt: skip
    if any(name.lower() in ("authorization", "x-api-key") for name in template.headers):
        raise BadInput(f"{file}: put the key into an environment variable and name it by key_env")
    steps(str(template.answer))
    return template


def _holds(value: Any, mark: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(part, mark) for part in value.values())
    if isinstance(value, list):
        return any(_holds(part, mark) for part in value)
    return bool(value == mark)


def _filled(value: Any, mark: str, content: Any) -> Any:
    """Return the request with the inputs in it."""
    if isinstance(value, dict):
        return {name: _filled(part, mark, content) for name, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, mark, content) for part in value]
    return content if value == mark else value
