"""What was planted in models, and what an audit at the depth quick says: two tables in Markdown.

    python comparisons/planted.py masks       hidden gradients, beside honest models
    python comparisons/planted.py triggers    backdoors, with gradients and without, beside honest

All on the embedded digits; the models are trained here, and are not trustml's own.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trustml.audit.backdoor import BACKDOOR
from trustml.audit.black_box import BLACK_BOX
from trustml.audit.findings import Finding
from trustml.audit.robustness import ROBUSTNESS
from trustml.audit.sections import Section, Subject
from trustml.benchmarks import harness
from trustml.benchmarks.plan import Plan
from trustml.contracts import Access, Split
from trustml.data.digits import digits
from trustml.poisoning.badnets import badnets
from trustml.randomness import keyed

SOURCE = """
import torch
from torch import nn

def plain():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )

class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.inside = plain()

class Rounded(Around):
    def forward(self, x):
        return self.inside((x * 4).round() / 4)

class Saturated(Around):
    def forward(self, x):
        return (200 * self.inside(x)).softmax(1)

class Steep(Around):
    def forward(self, x):
        return 1000 * self.inside(x)

class Noisy(Around):
    def forward(self, x):
        return self.inside(x + 0.2 * torch.randn_like(x))
"""
MASKS = {
    "honest": "plain", "input rounded to 5 levels": "Rounded", "softmax of logits × 200":
    "Saturated", "logits × 1000": "Steep", "random noise on the input": "Noisy",
}  # fmt: skip


def main() -> None:
    """Print the table that the command line names."""
    tables = {"masks": masks, "triggers": triggers}
    if len(sys.argv) != 2 or sys.argv[1] not in tables:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        for line in tables[sys.argv[1]](Path(folder)):
            print(line, flush=True)


def masks(folder: Path) -> Iterator[str]:
    """Yield the table of hidden gradients."""
    clean = digits(folder=None).train
    make = _module(folder)
    weights = _fitted(make["plain"](), clean).state_dict()
    torch.save(weights, folder / "plain.pt")
    torch.save({f"inside.{k}": v for k, v in weights.items()}, folder / "inside.pt")
    yield "| model | worst case left | masked gradients | left under rays, which only asks |"
    yield "|---|---|---|---|"
    models = {
        told: f"{folder / 'make.py'}:{name}:weights="
        f"{folder / ('plain.pt' if name == 'plain' else 'inside.pt')}"
        for told, name in MASKS.items()
    } | {"`cnn+fast_adversarial_training`": "cnn+fast_adversarial_training", "`cnn`": "cnn"}
    for told, model in models.items():
        found = _found(ROBUSTNESS, model)
        asked = next(f for f in _found(BLACK_BOX, model).values() if "rays" in f.case)
        worst, signs = found["worst case"], found["masked gradients"].severity
        yield f"| {told} | {worst.score.value:.0%} | {signs} | {asked.score.value:.0%} |"


def triggers(folder: Path) -> Iterator[str]:
    """Yield the table of backdoors: BadNets, a square of 2 × 2, 10 % of the samples."""
    clean = digits(folder=None).train
    yield "| model | trigger | gradients | severity | what was found |"
    yield "|---|---|---|---|---|"
    make = _module(folder)
    for target in (None, 0, 3, 7):
        told = "none" if target is None else f"class {target}"
        split = clean
        if target is not None:
            split, _ = badnets(clean, random=keyed(0, clean.ids), rate=0.1, target=target, size=2)
        torch.save(_fitted(make["plain"](), split).state_dict(), folder / f"{target}.pt")
        model = f"{folder / 'make.py'}:plain:weights={folder / f'{target}.pt'}"
        yield _row("CNN", told, "yes", _found(BACKDOOR, model)["backdoor"])
        for name, path in _estimators(split, folder / str(target)):
            found = _found(BACKDOOR, f"{path}:trust_pickle=true", Access.PROBABILITIES)
            yield _row(name, told, "no", found.get("backdoor"))


def _row(model: str, told: str, shown: str, found: Finding | None) -> str:
    said = ("none", "not examined") if found is None else (found.severity, found.title)
    told_of = said[1].partition("; its gradients")[0]
    return f"| {model} | {told} | {shown} | {said[0]} | {told_of} |"


def _found(section: Section, model: str, access: Access = Access.GRADIENTS) -> dict[str, Finding]:
    subject = Subject(access, "quick", True, ("linf",), training=1000)
    plan = section.plan(Plan((model,)), subject)
    with tempfile.TemporaryDirectory() as folder:
        records = list(harness.start(plan, Path(folder) / "run"))
    found = {}
    for one in section.judged(records):
        found[one.name if one.name not in found else f"{one.name} {one.case}"] = one
    return found


def _module(folder: Path) -> Mapping[str, Callable[[], Any]]:
    """Write the file of models, and return what it defines."""
    (folder / "make.py").write_text(SOURCE)
    known: dict[str, Any] = {}
    exec(SOURCE, known)
    return known


def _estimators(split: Split, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield estimators without gradients, each in a file."""
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    folder.mkdir(exist_ok=True)
    for name, model in (
        ("forest of 100 trees", RandomForestClassifier(100, random_state=0)),
        ("support vectors", SVC(random_state=0)),
        ("MLP of scikit-learn", MLPClassifier((64,), max_iter=200, random_state=0)),
        ("logistic regression", LogisticRegression(C=0.1, max_iter=300)),
        ("one tree", DecisionTreeClassifier(random_state=0)),
    ):
        model.fit(split.x.flatten(1).numpy(), split.y.numpy())
        path = folder / f"{type(model).__name__}.joblib"
        joblib.dump(model, path)
        yield name, path


def _fitted(module: nn.Module, split: Split) -> nn.Module:
    """Train as any stranger would."""
    random = torch.Generator().manual_seed(0)
    for p in module.parameters():
        bound = p[0].numel() ** -0.5 if p.dim() > 1 else 0.1
        p.data = (torch.rand(p.shape, generator=random) * 2 - 1) * bound
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(15):
        for rows in torch.randperm(len(split), generator=random).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(split.x[rows]), split.y[rows]).backward()
            optimizer.step()
    return module.eval()


if __name__ == "__main__":
    main()
