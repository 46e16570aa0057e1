"""The target `mlflow`: a model behind MLflow's scoring server, `…/invocations`."""

import hashlib
from dataclasses import replace
from typing import Any

from torch import Tensor

from trustml.contracts import Domain, Interface, Target
from trustml.errors import MethodFailed
from trustml.registry import target
from trustml.targets._batches import asked, taken
from trustml.targets._face import Found, target_of, trials
from trustml.targets._http import Client, opening
from trustml.targets._json_answers import class_names, scores_or_labels
from trustml.targets._manner import Manner


@target(
    source="MLflow: the scoring server's /invocations (mlflow.org)",
    takes="url",
    looks=(r"https?://.+/invocations",),
)
def mlflow(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    url: str = "",
    columns: tuple[str, ...] = (),
    timeout: float = 30.0,
    batch: int = 16,
    workers: int = 4,
    rate: float = 0.0,
    budget: int = 0,
    key_env: str | None = None,
) -> Target:
    """A model that `mlflow models serve` or SageMaker serves: `http://host:port/invocations`.

    A model that was logged with a table needs the names of its columns.
    The protocol does not say the shape of an input: it is that of the data, or input_shape.

    Raises:
        BadInput: no such server, or answers that are none of a classifier.
    """
    manner = Manner(timeout, batch, workers, rate, budget, key_env)
    with opening():
        client = Client(url, manner)
        served = _Served(client, columns)
        digest = hashlib.sha256(url.encode()).hexdigest()
        found = Found(served, f"MLflow model {url}", digest, remote=True)
        found = taken(found, client, domain, interface)
        served(trials(found, domain, interface)[:1])
        found = replace(found, class_names=served.names)
        return target_of(found, domain, interface)


class _Served:
    """Inputs → the served model's scores or labels."""

    def __init__(self, client: Client, columns: tuple[str, ...]) -> None:
        self.client, self.columns = client, columns
        self.names: tuple[str, ...] = ()

    def __call__(self, x: Tensor) -> Any:
        """Return scores (B, K), or labels."""
        return asked(self.client, x, self._one)

    def _one(self, x: Tensor) -> Any:
        if self.columns:
            flat = x.flatten(1).tolist()
            asked_for: Any = {"dataframe_split": {"columns": list(self.columns), "data": flat}}
        else:
            asked_for = {"inputs": x.tolist()}
        answer = self.client.post(asked_for)
        if not isinstance(answer, dict) or "predictions" not in answer:
            raise MethodFailed(
                f"{self.client.url} answers without predictions: {str(answer)[:200]}"
            )
        self.names = class_names(answer["predictions"])
        return scores_or_labels(answer["predictions"], len(x), self.client.url)
