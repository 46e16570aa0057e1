"""The attacks that trustml and a peer both have, and how a peer's is run; for catalogue.py.

Peers are foolbox, torchattacks, ART, adversarial-library and the reference AutoAttack. Each gets
the options that its own users would leave alone, the steps or queries of the bench, and step
lengths in shares of epsilon where its own are in pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trustml.contracts import Norm

ORDER: dict[Norm, float] = {"linf": math.inf, "l2": 2, "l1": 1, "l0": 0}
# Farther than any point of the box, in images of up to 3 072 entries.
WIDTH: dict[Norm, float] = {"linf": 1.0, "l2": 60.0, "l1": 4000.0}


class Counted(nn.Module):
    """A model, with counts of the rows that went through it forwards and backwards."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap the model."""
        super().__init__()
        self.model, self.forwards, self.backwards, self.softmax = model, 0, 0, False

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B, K), or probabilities for a peer that wants them."""
        self.forwards += len(x)
        logits = self.model(x.float())  # ART sends float64
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits.softmax(1) if self.softmax else logits

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@dataclass(frozen=True)
class Bench:
    """What all attack: a network, inputs that it reads rightly, their labels, budget and effort."""

    name: str
    model: Counted
    x: Tensor
    y: Tensor
    norm: Norm
    epsilon: float
    steps: int
    queries: int


Run = Callable[[Bench], Tensor]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """An attack of trustml beside one of a peer.

    Args:
        ours: name in trustml.
        peer: the library.
        theirs: name there.
        norm: what is measured.
        run: runs the peer's.
        fixed: whether it stays in a ball of a given radius; else it looks for the nearest point.
        effort: "steps" or "queries": the option of ours that says how long it goes on; "" if none.
        options: further options of ours; what is callable is asked with the bench.
        equal: give ours just the passes that the peer was seen to take; else the same number of
            steps, for attacks that stop when they have won.
        slow: left out unless it is named.
    """

    ours: str
    peer: str
    theirs: str
    norm: Norm
    run: Run
    fixed: bool = True
    effort: str = "steps"
    options: Options = field(default_factory=dict)
    equal: bool = False
    slow: bool = False

    @property
    def text(self) -> str:
        """What a row is called."""
        given = ",".join(f"{key}={value}" for key, value in self.options.items()
                         if not callable(value))  # fmt: skip
        return f"{self.ours}{':' if given else ''}{given}"


def filled(options: Options, bench: Bench) -> dict[str, Any]:
    """Return the options, with what depends on the bench put in."""
    return {name: value(bench) if callable(value) else value for name, value in options.items()}


def steps(share: float = 1.0) -> Callable[[Bench], int]:
    """Return how many steps an attack gets: a share of the bench's."""
    return lambda bench: max(1, round(bench.steps * share))


def queries(share: float = 1.0) -> Callable[[Bench], int]:
    """Return the same of the queries."""
    return lambda bench: max(2, round(bench.queries * share))


def epsilons(share: float = 1.0) -> Callable[[Bench], float]:
    """Return a length: a share of the budget."""
    return lambda bench: bench.epsilon * share


def foolbox(called: str, fixed: bool = True, **options: Any) -> Run:
    """Return a run of foolbox's attack of that name."""

    def run(bench: Bench) -> Tensor:
        import foolbox

        model = foolbox.PyTorchModel(bench.model, bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, called)(**filled(options, bench))
        found: Tensor
        _, found, _ = attack(model, bench.x, bench.y, epsilons=bench.epsilon if fixed else None)
        return found

    return run


def torchattacks(called: str, **options: Any) -> Run:
    """Return a run of torchattacks' attack of that name."""

    def run(bench: Bench) -> Tensor:
        import torchattacks

        found: Tensor = getattr(torchattacks, called)(bench.model, **filled(options, bench))(
            bench.x, bench.y
        )
        return found

    return run


def art(called: str, softmax: bool = False, aimed: bool = False, **options: Any) -> Run:
    """Return a run of ART's evasion attack of that name; an aimed one is given the next class."""

    def run(bench: Bench) -> Tensor:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier

        shape, loss = tuple(bench.x.shape[1:]), nn.CrossEntropyLoss()
        bench.model.softmax = softmax
        try:
            model = PyTorchClassifier(
                bench.model, loss, shape, 10, clip_values=(0.0, 1.0), device_type="cpu"
            )
            attack = getattr(evasion, called)(model, **filled(options, bench))
            wanted = (bench.y + 1) % 10 if aimed else bench.y
            labels = nn.functional.one_hot(wanted, 10).float().numpy()
            return torch.from_numpy(attack.generate(bench.x.numpy(), labels))
        finally:
            bench.model.softmax = False

    return run


def library(called: str, **options: Any) -> Run:
    """Return a run of adversarial-library's attack of that name."""

    def run(bench: Bench) -> Tensor:
        import adv_lib.attacks

        found: Tensor = getattr(adv_lib.attacks, called)(
            bench.model, bench.x, bench.y, **filled(options, bench)
        )
        return found

    return run


def reference(stage: str, **options: Any) -> Run:
    """Return a run of one stage of the reference AutoAttack, as its ensemble calls it."""

    def run(bench: Bench) -> Tensor:
        from pyautoattack import AutoAttack

        norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[bench.norm]
        # Points farther than this do not count for FAB.
        far = bench.epsilon if math.isfinite(bench.epsilon) else WIDTH[bench.norm]
        suite = AutoAttack(
            bench.model, eps=far, seed=0, norm=norm, version="custom", attacks=[stage]
        )
        part = {"apgd-t": suite.apgd_targeted, "fab": suite.fab, "fab-t": suite.fab,
                "square": suite.square}.get(stage, suite.apgd)  # fmt: skip
        part.n_restarts, part.seed = 1, 0
        if stage.startswith("apgd"):
            if stage != "apgd-t":
                part.loss = "dlr" if stage == "apgd-dlr" else "ce"
            part.use_largereps = bench.norm == "l1"
        part.targeted = stage == "fab-t"
        for name, value in filled(options, bench).items():
            setattr(part, name, value)
            if name == "n_iter" and stage.startswith("apgd"):
                part.n_iter_orig = value  # what its three balls of L1 share
        found: Tensor = part.perturb(bench.x.clone(), bench.y.clone())
        return found

    return run


def _steepest() -> tuple[Pair, ...]:
    """Return one step, steps from the input, and steps from a random point."""
    rows = []
    for norm, word in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
        order = ORDER[norm]
        loop: Options = {"eps": epsilons(), "eps_step": lambda b: 2.5 * b.epsilon / b.steps,
                         "norm": order, "max_iter": steps(), "verbose": False}  # fmt: skip
        rows += [
            Pair("fgsm", "foolbox", f"{word}FastGradientAttack", norm,
                 foolbox(f"{word}FastGradientAttack"), effort=""),
            Pair("fgsm", "ART", "FastGradientMethod", norm,
                 art("FastGradientMethod", eps=epsilons(), norm=order), effort=""),
            Pair("bim", "foolbox", f"{word}BasicIterativeAttack", norm,
                 foolbox(f"{word}BasicIterativeAttack", steps=steps(0.25)),
                 options={"steps": steps(0.25)}, effort=""),
            Pair("pgd", "foolbox", f"{word}PGD", norm, foolbox(f"{word}PGD", steps=steps())),
            Pair("pgd", "ART", "ProjectedGradientDescent", norm,
                 art("ProjectedGradientDescent", num_random_init=1, **loop)),
        ]  # fmt: skip
    return (
        *rows,
        Pair("fgsm", "torchattacks", "FGSM", "linf", torchattacks("FGSM", eps=epsilons()),
             effort=""),
        Pair("bim", "torchattacks", "BIM", "linf",
             torchattacks("BIM", eps=epsilons(), alpha=epsilons(0.25), steps=steps(0.25)),
             options={"steps": steps(0.25)}, effort=""),
        Pair("bim", "ART", "BasicIterativeMethod", "linf",
             art("BasicIterativeMethod", eps=epsilons(), max_iter=steps(0.25), verbose=False,
                 eps_step=lambda b: 2.5 * b.epsilon / steps(0.25)(b)),
             options={"steps": steps(0.25)}, effort=""),
        Pair("pgd", "torchattacks", "PGD", "linf",
             torchattacks("PGD", eps=epsilons(), alpha=epsilons(0.25), steps=steps())),
        Pair("pgd", "torchattacks", "TPGD", "linf",
             torchattacks("TPGD", eps=epsilons(), alpha=epsilons(0.25), steps=steps(0.25)),
             options={"loss": "divergence", "steps": steps(0.25)}, effort=""),
        Pair("virtual_adversarial", "foolbox", "VirtualAdversarialAttack", "l2",
             foolbox("VirtualAdversarialAttack", steps=steps(0.25)),
             options={"steps": steps(0.25)}, effort=""),
        Pair("pgd", "torchattacks", "PGDL2", "l2",
             torchattacks("PGDL2", eps=epsilons(), alpha=epsilons(0.2), steps=steps())),
        Pair("pgd", "adversarial-library", "pgd_linf", "linf",
             library("pgd_linf", ε=epsilons(), steps=steps())),
        Pair("pgd", "torchattacks", "RFGSM", "linf",
             torchattacks("RFGSM", eps=epsilons(), alpha=epsilons(0.25), steps=steps(0.25)),
             options={"steps": steps(0.25)}, effort=""),
        Pair("fgsm", "torchattacks", "FFGSM", "linf",
             torchattacks("FFGSM", eps=epsilons(), alpha=epsilons(1.25)),
             options={"start": True}, effort=""),
        Pair("pgd", "foolbox", "SparseL1DescentAttack", "l1",
             foolbox("SparseL1DescentAttack", steps=steps())),
    )  # fmt: skip


def _momentum() -> tuple[Pair, ...]:
    """Return the transfer family, at a quarter of the steps as in its papers."""
    few = {"steps": steps(0.25)}
    here: Options = {"eps": epsilons(), "alpha": epsilons(0.25), **few}

    def row(theirs: str, made: Options, **options: Any) -> Pair:
        return Pair("momentum", "torchattacks", theirs, "linf",
                    torchattacks(theirs, **{**here, **made}), effort="",
                    options={**options, **few})  # fmt: skip

    return (
        row("MIFGSM", {}),
        row("NIFGSM", {}, nesterov=True),
        row("VMIFGSM", {}, variance=5),
        row("VNIFGSM", {}, variance=5, nesterov=True),
        row("DIFGSM", {"decay": 1.0}, diversity=0.5),
        row("TIFGSM", {"decay": 1.0, "len_kernel": 5}, translation=5, diversity=0.5),
        row("SINIFGSM", {}, nesterov=True, scales=5),
        *(
            Pair("momentum", "foolbox", f"{word}MomentumIterative…", norm,
                 foolbox(f"{word}MomentumIterativeFastGradientMethod", steps=steps(0.25)),
                 effort="", options=few)
            for norm, word in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1"))
        ),
        Pair("momentum", "ART", "MomentumIterativeMethod", "linf",
             art("MomentumIterativeMethod", eps=epsilons(), max_iter=steps(0.25), verbose=False,
                 eps_step=lambda b: 2.5 * b.epsilon / steps(0.25)(b)),
             effort="", options=few),
    )  # fmt: skip


def _adaptive() -> tuple[Pair, ...]:
    """Return APGD and what is made of it."""
    rows = []
    for norm, word in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
        order = ORDER[norm]
        large = {"use_large_reps": True} if norm == "l1" else {}
        rows += [
            Pair("apgd", "AutoAttack", "apgd-ce", norm, reference("apgd-ce", n_iter=steps())),
            Pair("apgd", "AutoAttack", "apgd-dlr", norm, reference("apgd-dlr", n_iter=steps()),
                 options={"loss": "dlr"}),
            Pair("apgd", "adversarial-library", "apgd", norm,
                 library("apgd", eps=epsilons(), norm=order, n_iter=steps(), **large),
                 options={"loss": "dlr"}),
            Pair("apgd_targeted", "AutoAttack", "apgd-t", norm,
                 reference("apgd-t", n_iter=steps(0.5), n_target_classes=5),
                 options={"steps": steps(0.5), "targets": 5}, effort=""),
            Pair("apgd_targeted", "adversarial-library", "apgd_targeted", norm,
                 library("apgd_targeted", eps=epsilons(), norm=order, n_iter=steps(0.5),
                         num_targets=5, **large),
                 options={"steps": steps(0.5), "targets": 5}, effort=""),
        ]  # fmt: skip
        if norm != "l1":
            rows += [
                Pair("apgd", "torchattacks", "APGD", norm,
                     torchattacks("APGD", norm=word, eps=epsilons(), steps=steps())),
                Pair("apgd_targeted", "torchattacks", "APGDT", norm,
                     torchattacks("APGDT", norm=word, eps=epsilons(), steps=steps(0.25)),
                     options={"steps": steps(0.25)}, effort=""),
            ]  # fmt: skip
        for ours, theirs, options in (
            ("apgd", "AutoProjectedGradientDescent", {}),
            ("auto_conjugate_gradient", "AutoConjugateGradient", {}),
            ("auto_conjugate_gradient", "RescalingAutoConjugateGradient", {"rescaled": True}),
        ):
            rows.append(Pair(ours, "ART", theirs, norm, art(
                theirs, eps=epsilons(), eps_step=epsilons(2.0), norm=order, max_iter=steps(),
                nb_random_init=1, loss_type="cross_entropy", verbose=False, batch_size=256,
            ), options=options))  # fmt: skip
    rows.append(Pair("apgd", "torchattacks", "Jitter", "linf",
                     torchattacks("Jitter", eps=epsilons(), alpha=epsilons(0.25), steps=steps()),
                     options={"loss": "jitter"}))  # fmt: skip
    return tuple(rows)


def _scores() -> tuple[Pair, ...]:
    """Return the attacks that see scores, within a ball; foolbox's GenAttack needs targets."""
    asked: Options = {"effort": "queries"}
    rows = []
    for norm, word in (("linf", "Linf"), ("l2", "L2"), ("l1", "L1")):
        rows.append(Pair("square", "AutoAttack", "square", norm,
                         reference("square", n_queries=queries()), **asked))  # fmt: skip
        if norm == "l1":
            continue
        rows += [
            Pair("square", "torchattacks", "Square", norm,
                 torchattacks("Square", norm=word, eps=epsilons(), n_queries=queries()), **asked),
            Pair("square", "ART", "SquareAttack", norm,
                 art("SquareAttack", norm=ORDER[norm], eps=epsilons(), max_iter=queries(0.5),
                     batch_size=256, verbose=False), equal=True, **asked),
            Pair("noise", "foolbox", f"{word}Repeated…UniformNoise", norm,
                 foolbox(f"{word}RepeatedAdditiveUniformNoiseAttack", repeats=queries(0.1)),
                 effort="", options={"draws": queries(0.1)}),
        ]  # fmt: skip
    return (
        *rows,
        Pair("nes", "torchattacks", "SPSA", "linf",
             torchattacks("SPSA", eps=epsilons(), lr=epsilons(0.1), delta=epsilons(0.1),
                          nb_sample=16, nb_iter=queries(1 / 32)),
             options={"noise": "signs"}, equal=True, **asked),
        Pair("one_pixel", "torchattacks", "OnePixel", "l0",
             torchattacks("OnePixel", pixels=lambda b: round(b.epsilon / b.x.shape[1]),
                          steps=10, popsize=queries(0.1)), equal=True, **asked),
        Pair("sparse_rs", "torchattacks", "Pixle", "l0",
             torchattacks("Pixle", restarts=queries(0.1), max_iterations=10),
             options={"values": "image"}, equal=True, **asked),
        Pair("simba", "ART", "SimBA (pixels)", "l2",
             art("SimBA", True, attack="px", max_iter=queries(0.5), epsilon=0.2, freq_dim=4,
                 verbose=False), fixed=False, equal=True, **asked),
        Pair("simba", "ART", "SimBA (cosines)", "l2",
             art("SimBA", True, attack="dct", max_iter=queries(0.5), epsilon=0.2, freq_dim=4,
                 verbose=False),
             fixed=False, equal=True, options={"basis": "dct"}, **asked),
        Pair("zoo", "ART", "ZooAttack", "l2",
             art("ZooAttack", max_iter=steps(0.25), binary_search_steps=3, nb_parallel=16,
                 learning_rate=0.1, use_resize=False, use_importance=False, verbose=False),
             fixed=False, equal=True, **asked),
    )  # fmt: skip


def _labels() -> tuple[Pair, ...]:
    """Return the attacks that see labels and look for the nearest point."""
    asked: Options = {"fixed": False, "effort": "queries", "equal": True}
    return (
        Pair("boundary", "foolbox", "BoundaryAttack", "l2",
             foolbox("BoundaryAttack", False, steps=queries(0.9), tensorboard=False), **asked),
        Pair("boundary", "ART", "BoundaryAttack", "l2",
             art("BoundaryAttack", targeted=False, max_iter=queries(0.04), verbose=False),
             **asked),
        *(
            Pair("hop_skip_jump", "foolbox", "HopSkipJumpAttack", norm,
                 foolbox("HopSkipJumpAttack", False, steps=4, constraint=norm,
                         tensorboard=False), **asked)
            for norm in ("l2", "linf")
        ),
        *(
            Pair("hop_skip_jump", "ART", "HopSkipJump", norm,
                 art("HopSkipJump", norm=ORDER[norm], max_iter=3, verbose=False), **asked)
            for norm in ("l2", "linf")
        ),
        Pair("geoda", "ART", "GeoDA", "l2",
             art("GeoDA", norm=2, max_iter=queries(), sub_dim=10, verbose=False), **asked),
        Pair("sign_opt", "ART", "SignOPTAttack", "l2",
             art("SignOPTAttack", targeted=False, query_limit=queries(2), num_trial=20, k=50,
                 verbose=False), **asked),
        Pair("pointwise", "foolbox", "PointwiseAttack", "l0",
             foolbox("PointwiseAttack", False, l2_binary_search=False), **asked),
        Pair("blended_noise", "foolbox", "LinearSearchBlendedUniformNoiseAttack", "l2",
             foolbox("LinearSearchBlendedUniformNoiseAttack", False, steps=50,
                     directions=queries(0.1)), **asked),
        Pair("blended_noise", "foolbox", "SaltAndPepperNoiseAttack", "l0",
             foolbox("SaltAndPepperNoiseAttack", False, steps=queries()),
             **asked, options={"noise": "salt_and_pepper"}),
        Pair("contrast_reduction", "foolbox", "L2ContrastReductionAttack", "l2",
             foolbox("L2ContrastReductionAttack"), effort="", options={"queries": 2}),
        Pair("contrast_reduction", "foolbox", "BinarySearchContrastReductionAttack", "l2",
             foolbox("BinarySearchContrastReductionAttack", False), **asked),
        Pair("contrast_reduction", "foolbox", "LinearSearchContrastReductionAttack", "l2",
             foolbox("LinearSearchContrastReductionAttack", False, steps=queries(0.25)), **asked),
        Pair("contrast_reduction", "foolbox", "GaussianBlurAttack", "l2",
             foolbox("GaussianBlurAttack", False, steps=queries(0.25)), **asked,
             options={"towards": "blurred"}),
        Pair("contrast_reduction", "foolbox", "InversionAttack", "l2",
             foolbox("InversionAttack", False), **asked, options={"towards": "inverted"}),
    )  # fmt: skip


def _nearest() -> tuple[Pair, ...]:
    """Return the gradient attacks that look for the nearest point, in any of several norms."""
    here: Options = {"fixed": False, "equal": True}
    rows = []
    for norm, word in (("linf", "LInf"), ("l2", "L2"), ("l1", "L1"), ("l0", "L0")):
        order = ORDER[norm]
        dual = "pdgd" if norm == "l2" else "pdpgd"
        rows += [
            Pair("fmn", "foolbox", f"{word}FMNAttack", norm,
                 foolbox(f"{word}FMNAttack", False, steps=steps()), **here),
            Pair("fmn", "adversarial-library", "fmn", norm,
                 library("fmn", norm=order, steps=steps()), **here),
            Pair("pdpgd", "adversarial-library", dual, norm,
                 library(dual, num_steps=steps(2), **({} if norm == "l2" else {"norm": order})),
                 **here),
            Pair("brendel_bethge", "foolbox",
                 f"{'Linfinity' if norm == 'linf' else word}BrendelBethgeAttack", norm,
                 foolbox(f"{'Linfinity' if norm == 'linf' else word}BrendelBethgeAttack", False,
                         steps=steps()), **here),
        ]  # fmt: skip
        if norm != "l0":
            title = {"linf": "Linf", "l2": "L2", "l1": "L1"}[norm]
            rows += [
                Pair("fab", "adversarial-library", "fab", norm,
                     library("fab", norm=order, n_iter=steps(0.5)), **here),
                Pair("fab", "AutoAttack", "fab", norm, reference("fab", n_iter=steps(0.5)),
                     **here),
                Pair("fab", "AutoAttack", "fab-t", norm,
                     reference("fab-t", n_iter=steps(0.5), n_target_classes=9), effort="",
                     options={"steps": steps(0.5), "targets": 9, "stop_inside": True}),
                Pair("fab", "torchattacks", "FAB", norm,
                     torchattacks("FAB", norm=title, eps=WIDTH[norm], steps=steps(0.5)), **here),
            ]  # fmt: skip
        if norm in ("linf", "l2"):
            rows += [
                Pair("deepfool", "foolbox", f"{title}DeepFoolAttack", norm,
                     foolbox(f"{title}DeepFoolAttack", False), fixed=False, effort=""),
                Pair("deepfool", "adversarial-library", "df", norm,
                     library("df", steps=50, norm=order), fixed=False, effort=""),
            ]  # fmt: skip
        if norm in ("l2", "l1"):
            reach = {"l2": 0.1, "l1": 0.5}[norm]
            rows.append(Pair("alma", "adversarial-library", "alma", norm,
                             library("alma", num_steps=steps(4), distance=norm,
                                     init_lr_distance=reach), **here))  # fmt: skip
        if norm in ("l2", "linf"):
            rows.append(Pair("brendel_bethge", "ART", "BrendelBethgeAttack", norm,
                             art("BrendelBethgeAttack", norm=order, steps=steps()),
                             **here))  # fmt: skip
    return tuple(rows)


def _one_norm() -> tuple[Pair, ...]:
    """Return the gradient attacks that look for the nearest point in one norm."""
    here: Options = {"fixed": False, "equal": True}
    alone: Options = {"fixed": False, "effort": ""}
    search: Options = {"max_iter": steps(), "batch_size": 256, "verbose": False}
    return (
        Pair("ddn", "foolbox", "DDNAttack", "l2", foolbox("DDNAttack", False, steps=steps()),
             **here),
        Pair("ddn", "adversarial-library", "ddn", "l2", library("ddn", steps=steps()), **here),
        Pair("deepfool", "torchattacks", "DeepFool", "l2", torchattacks("DeepFool"), **alone),
        Pair("deepfool", "ART", "DeepFool", "l2",
             art("DeepFool", max_iter=50, batch_size=256, verbose=False), **alone),
        Pair("superdeepfool", "adversarial-library", "sdf", "l2",
             library("sdf", steps=4, df_steps=5), **here),
        Pair("newton_fool", "foolbox", "NewtonFoolAttack", "l2",
             foolbox("NewtonFoolAttack", False), **alone),
        Pair("newton_fool", "ART", "NewtonFool", "l2",
             art("NewtonFool", batch_size=256, verbose=False), **alone),
        Pair("carlini_wagner", "foolbox", "L2CarliniWagnerAttack", "l2",
             foolbox("L2CarliniWagnerAttack", False, steps=steps()), **here),
        Pair("carlini_wagner", "torchattacks", "CW", "l2",
             torchattacks("CW", steps=steps(9)), **here),
        Pair("carlini_wagner", "ART", "CarliniL2Method", "l2",
             art("CarliniL2Method", **search), **here),
        Pair("carlini_wagner", "adversarial-library", "carlini_wagner_l2", "l2",
             library("carlini_wagner_l2", max_iterations=steps()), **here),
        Pair("carlini_wagner", "ART", "CarliniLInfMethod", "linf",
             art("CarliniLInfMethod", **search), **here, slow=True),
        Pair("carlini_wagner", "adversarial-library", "carlini_wagner_linf", "linf",
             library("carlini_wagner_linf", max_iterations=steps()), **here, slow=True),
        Pair("carlini_wagner", "ART", "CarliniL0Method", "l0",
             art("CarliniL0Method", **search), **alone, slow=True),
        Pair("ead", "foolbox", "EADAttack", "l1",
             foolbox("EADAttack", False, steps=steps(), decision_rule="L1"), **here),
        Pair("ead", "torchattacks", "EADL1", "l1", torchattacks("EADL1", max_iterations=steps()),
             **here),
        Pair("ead", "ART", "ElasticNet", "l1",
             art("ElasticNet", decision_rule="L1", **search), **here),
        Pair("sigma_zero", "adversarial-library", "sigma_zero", "l0",
             library("sigma_zero", num_steps=steps(4)), **here),
        *(
            Pair("sparse_fool", "torchattacks", "SparseFool", norm, torchattacks("SparseFool"),
                 **here, slow=True)
            for norm in ("l0", "l1")
        ),
        Pair("jsma", "ART", "SaliencyMapMethod", "l0",
             art("SaliencyMapMethod", aimed=True, theta=1.0, gamma=0.1, batch_size=256,
                 verbose=False), **alone),
        Pair("jsma", "torchattacks", "JSMA", "l0", torchattacks("JSMA"), **alone),
    )  # fmt: skip


PAIRS: tuple[Pair, ...] = (
    *_steepest(), *_momentum(), *_adaptive(), *_scores(), *_labels(), *_nearest(), *_one_norm()
)  # fmt: skip
