"""The plan: what a run will do, in texts that name every option, and its way to disk and back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from trustml.contracts import Json, Measure
from trustml.errors import BadInput, BadOption, UnknownName, UsageError
from trustml.options import read, write
from trustml.recipes import Choice, Recipe, choose, read_recipe

PLAN = "plan.json"
Bounds = Literal["auto", "tight", "off"]
Precision = Literal["auto", "float32", "bfloat16"]
Grid = Literal["none", "8-bit"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: every exam that is asked for, on each model with each seed, on one dataset.

    Args:
        attacks: the attacks of the exam of robustness: models × norms × epsilons × attacks.
        epsilons: none means the data's usual budget for each norm.
        target: "none", "next" (the class after the true one), or a class number.
        seed: of the first training, and of what is drawn at random.
        seeds: how many models of one recipe are trained and examined, with seeds one after another.
        limit: only the first that many test samples; 0 is all.
        shard: (index, count): only every count-th sample, beginning with index.
        batch_size: samples in flight; 0 is as many as the device has room for (512 on a CPU).
        order: "given" or "reversed" order of the samples; verdicts do not depend on it.
        budget: forward passes a sample at most for each attack, queries in all for each stealer; 0
            is no bound.
        curve: look for the nearest adversarial input, whatever its distance: the whole box is
            allowed, `epsilons` must be empty, and only minimum-norm attacks will do.
        certify: what is proved before anything is attacked: "auto" what is proved at once (linear
            models, intervals), "tight" with CROWN bounds too, "off" nothing.
        detectors: the detectors of the exam of detection, each a chain such as `react+energy`.
        attributions: the methods of the exam of explanations.
        figures: what is measured of each explanation; none means all of it.
        stealers: the thieves of the exam of stealing.
        terms: what the victim answers to them, as `answers=logits,precision=float64`.
        countermeasures: what the victim does against thieves, each tried beside none at all.
        routes: ways to tamper with the mail, or groups of them, of the exam of safeguards.
        poisons: ways to tamper with the training data.
        defenses: safeguards that are set against each of them, each a chain or a monitor.
        inspections: searches for a backdoor in each model, as it is and after each poison.
        corruptions: what weather, cameras and storage do to the test pictures, or all of it.
        corruption_baseline: recipe of the model by whose errors errors are divided; none is no one.
        controls: honest models of the same recipe that it is compared with.
        controls_of: recipe of the honest models; none is the model's own, or one for its kind of
            inputs where it is deployed and cannot be trained anew.
        copy: recipe of a learnt copy; none is the victim's own.
        outside: the sets to be told from the test set; none means every partner at hand.
        false_alarms: share of ordinary inputs that a detector's gate may stop.
        aware: attack each detector's gate, too, knowing model and detector, in each of `norms` by
            each of `epsilons`.
        indicators: whether to look for signs that the attacks, not the model, are what is strong.
        precision: of the search; verdicts are always made in float32.
        deterministic: only operations of torch whose sums have a fixed order.
        surrogates: models that attacks see in the place of each of `models`, trained on the same
            data with other seeds; the attacked model itself only judges what comes of it.
        eot: how often a model that answers at random is asked: attacks average as many losses, and
            a sample stands if all of as many readings are right; 0 is the usual number.
        grid: where what attacks find must lie: "none", or "8-bit" for whole 255ths of the box.
    """

    models: tuple[str, ...]
    attacks: tuple[str, ...] = ()
    data: str = "digits"
    norms: tuple[Measure, ...] = ("linf",)
    epsilons: tuple[float, ...] = ()
    target: str = "none"
    seed: int = 0
    seeds: int = 1
    limit: int = 0
    batch_size: int = 512
    shard: tuple[int, int] = (0, 1)
    order: str = "given"
    budget: int = 0
    curve: bool = False
    certify: Bounds = "auto"
    indicators: bool = True
    detectors: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    stealers: tuple[str, ...] = ()
    terms: str = ""
    countermeasures: tuple[str, ...] = ()
    copy: str = ""
    routes: tuple[str, ...] = ()
    poisons: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    inspections: tuple[str, ...] = ()
    corruptions: tuple[str, ...] = ()
    corruption_baseline: str = ""
    controls: int = 20
    controls_of: str = ""
    outside: tuple[str, ...] = ()
    false_alarms: float = 0.05
    aware: bool = False
    precision: Precision = "auto"
    surrogates: tuple[str, ...] = ()
    grid: Grid = "none"
    deterministic: bool = False
    eot: int = 0
    device: str = "auto"
    data_dir: str | None = None
    plugins: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the plan as JSON."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True, slots=True)
class Case:
    """One row to be.

    Args:
        name: of the case, unique in its run.
        kind: of its record.
        plugin: what is examined, by name; `text` is its canonical text, or "" for a row about other
            rows.
        options: what its record says of them, or None where that depends on the other rows.
        model: the recipe in canonical text.
        seed: of the training and of what is drawn.
        threat: what its record says of its threat, but for the box, which the data know.
    """

    name: str
    kind: str
    plugin: str
    text: str
    options: Mapping[str, Json] | None
    model: str
    seed: int
    threat: Mapping[str, Json] = field(default_factory=dict)


def read_plan(folder: Path) -> Plan:
    """Return the plan of a run.

    Raises:
        BadInput: the folder holds no run, or its plan is damaged.
    """
    if not (folder / PLAN).is_file():
        raise BadInput(f"{folder} holds no run: there is no {PLAN} in it")
    try:
        return from_json((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError, BadInput) as error:
        raise BadInput(f"{folder / PLAN}: {error}") from error


def from_json(text: str) -> Plan:
    """Return the plan that `Plan.to_json` wrote.

    Raises:
        BadInput: the text is not a plan.
    """
    try:
        found = json.loads(text).items()
        facts: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in found}
        plan = Plan(**facts)
        for name, kind in get_type_hints(Plan).items():
            value = getattr(plan, name)
            if read(write(value), kind, name) != value:
                raise ValueError(f"{name} is {value!r}")
        _, _ = plan.shard
    except (ValueError, TypeError, AttributeError, UsageError) as error:
        raise BadInput(f"not a plan ({error})") from error
    return plan


def anywhere(choice: Choice) -> Choice:
    """Return the choice with its files named so that they are found from any folder."""
    files = {
        name: str(Path(value).expanduser().resolve())
        for name, value in choice.options.items()
        if name in ("path", "test_path", "weights") and value and Path(value).expanduser().exists()
    }
    file, colon, function = (choice.options.get("factory") or "").rpartition(":")
    if file and Path(file).expanduser().is_file():
        files["factory"] = f"{Path(file).expanduser().resolve()}{colon}{function}"
    return Choice(choice.plugin, {**choice.options, **files})


def check_seed(seed: int) -> None:
    """Check that torch takes the seed.

    Raises:
        BadOption: it does not.
    """
    if seed < 0:
        raise BadOption(f"--seed must be 0 or more, not {seed}")
    if seed >= 1 << 63:
        raise BadOption(f"--seed must be below 2^63, not {seed}")


def check_common(plan: Plan) -> None:
    """Check what every exam shares: numbers, norms, models are named.

    Raises:
        UsageError: one of them is not allowed; the message says what is.
    """
    if not plan.models:
        raise BadOption("no model to examine; name one with --model")
    for norm in plan.norms:
        if norm not in get_args(Measure):
            raise UnknownName.of("norm", norm, get_args(Measure))
    for word, choices in (("certify", Bounds), ("precision", Precision), ("grid", Grid)):
        if getattr(plan, word) not in get_args(choices):
            raise UnknownName.of(word, getattr(plan, word), get_args(choices))
    check_seed(plan.seed)
    for name, least in (("limit", 0), ("batch_size", 0), ("budget", 0), ("seeds", 1), ("eot", 0)):
        if getattr(plan, name) < least:
            raise BadOption(
                f"--{name.replace('_', '-')} must be {least} or more, not {getattr(plan, name)}"
            )
    index, count = plan.shard
    if count < 1 or not 0 <= index < count:
        raise BadOption(
            f"--shard {index}/{count}: parts are numbered from 0, so write 0/{max(count, 1)} to "
            f"{max(count, 1) - 1}/{max(count, 1)}"
        )
    if plan.order not in ("given", "reversed"):
        raise UnknownName.of("order", plan.order, ("given", "reversed"))


def canonical(plan: Plan) -> dict[str, Any]:
    """Return models, data and files of the plan with every option, as they are found anywhere.

    Raises:
        UsageError: a name or an option that is not allowed.
    """
    models = [read_recipe(text) for text in plan.models]
    for word, given in (("surrogate", plan.surrogates), ("grid", plan.grid != "none")):
        if given and not plan.attacks:
            raise BadOption(f"--{word} is about attacks: name an --attack, too")
    surrogates = [read_recipe(text) for text in plan.surrogates]
    for recipe in [*models, *surrogates]:
        if recipe.weights is not None and not Path(recipe.weights).expanduser().is_file():
            raise BadInput(f"model {recipe.name}: weights {recipe.weights}: no such file")
    return {
        "norms": unique(plan.norms),
        "models": unique(recipe_anywhere(recipe) for recipe in models),
        # One that stands twice is two models: their seeds differ.
        "surrogates": tuple(recipe_anywhere(recipe) for recipe in surrogates),
        "data": anywhere(choose("data", plan.data)).text,
        "data_dir": plan.data_dir and str(Path(plan.data_dir).resolve()),
        "plugins": tuple(str(Path(path).resolve()) for path in plan.plugins),
    }


def recipe_anywhere(recipe: Recipe) -> str:
    """Return the recipe's text with its files named so that they are found from any folder."""
    return replace(recipe, model=anywhere(recipe.model)).text


def unique(values: Iterable[T]) -> tuple[T, ...]:
    """Return the values in order, each once."""
    return tuple(dict.fromkeys(values))


def labels(names: Iterable[str]) -> list[str]:
    """Return file-safe labels; a name that stands more than once is numbered."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        safe = name.replace("/", ".")
        found.append(safe if seen[name] == 1 else f"{safe}-{seen[name]}")
    return found
