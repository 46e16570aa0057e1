"""The target `scikit_learn`: an estimator in a `.skops` file, or in a `.joblib` that is trusted."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trustml.contracts import Access, Domain, Interface, Target
from trustml.errors import BadInput, MissingPackage
from trustml.registry import target
from trustml.targets._face import Found, file_at, file_hash, target_of


@target(
    source="scikit-learn: predict_proba, decision_function, predict; skops.io",
    takes="path",
    looks=(r".+\.skops", r".+\.joblib"),
)
def scikit_learn(
    domain: Domain | None,
    interface: Interface,
    /,
    *,
    path: str = "",
    trusted: tuple[str, ...] = (),
    trust_pickle: bool = False,
) -> Target:
    """A scikit-learn classifier: probabilities, else margins, else labels; no gradients.

    `.skops` holds no code; types in it that skops does not know must be named in `trusted`. A
    `.joblib` is a pickle, which runs whatever its maker put into it: opened with trust_pickle only.

    Raises:
        BadInput: no such file, types that are not trusted, a pickle, or no classifier.
        MissingPackage: a .skops file without skops.
    """
    file = file_at(path)
    if file.suffix == ".skops":
        model = _from_skops(file, trusted)
    else:
        model = _from_joblib(file, trust_pickle)
    if not hasattr(model, "predict") or not hasattr(model, "classes_"):
        raise BadInput(f"{file} holds {type(model).__name__}, which is no fitted classifier")
    body = _Estimator(model)
    size = getattr(model, "n_features_in_", None)
    found = Found(
        body,
        f"scikit-learn {type(model).__name__} in {file}",
        file_hash(file),
        None if size is None else (int(size),),
        tuple(str(name) for name in model.classes_),
        body.says,
    )
    return target_of(found, domain, interface)


class _Estimator:
    """A fitted classifier asked for the most that it tells."""

    def __init__(self, model: Any) -> None:
        self.model = model
        if hasattr(model, "predict_proba"):
            self.says, self.ask = Access.PROBABILITIES, model.predict_proba
        elif hasattr(model, "decision_function"):
            self.says, self.ask = Access.LOGITS, model.decision_function
        else:
            self.says, self.ask = Access.LABELS, model.predict

    def __call__(self, x: Tensor) -> Any:
        """Return probabilities or margins as a tensor, or a list of labels."""
        said = self.ask(x.detach().cpu().flatten(1).numpy())
        if self.says == Access.LABELS:
            return [str(label) for label in said]
        return torch.from_numpy(said).to(x.device, x.dtype)

    def __deepcopy__(self, memo: Any) -> "_Estimator":
        """Return itself: asking does not change it."""
        return self


def _from_skops(file: Path, trusted: tuple[str, ...]) -> Any:
    """Return the estimator, every type of which is known or named."""
    try:
        from skops import io
    except ImportError as error:
        raise MissingPackage.of("skops", "skops", f"opening {file}") from error
    try:
        unknown = [name for name in io.get_untrusted_types(file=file) if name not in trusted]
        if unknown:
            named = ",".join([*trusted, *unknown])
            raise BadInput(
                f"{file} holds types that skops does not know: {', '.join(unknown)}; if you trust "
                f"whoever made it, name the model '{file}:trusted=[{named}]'"
            )
        return io.load(file, trusted=list(trusted))
    except BadInput:
        raise
    except Exception as error:  # zipfile, json and skops raise families of their own
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{file} is no file of skops ({type(error).__name__}: {said})") from error


def _from_joblib(file: Path, trusted: bool) -> Any:
    """Return the estimator of a pickle, if its maker is trusted."""
    if not trusted:
        raise BadInput(
            f"{file} is a pickle, which can run any code when it is opened; it was not opened. "
            f"Save the estimator with skops.io.dump as .skops, or say --trust-pickle "
            f"(trust_pickle=true) if you know who made it"
        )
    import joblib

    try:
        return joblib.load(file)
    except Exception as error:  # a pickle may raise anything
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{file} does not open ({type(error).__name__}: {said})") from error
