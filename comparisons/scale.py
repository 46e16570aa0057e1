"""How the harness scales: with the batch, with Ray workers, with images; and how near its floor.

    python comparisons/scale.py [--sections abcde] [--weights FILE] [--device cpu] [--threads 1]
        [--images 512] [--rounds 3] [--batches 1,8,64,256,512,1024] [--sizes 1000,10000,100000]
        [--workers 1,2] [--price 1.0]

On MNIST; TRUSTML_DATA says where it lies, FILE is a checkpoint of trustml's `cnn` (that of Wong et
al. 2020 fits), else a `cnn` is trained for one epoch. Seconds are wall time, the best of the
rounds, which are interleaved; sections b and c run in processes of their own.

    a  images a second of PGD-40 against the batch, beside a bare loop of the same steps
    b  images a second of whole runs: this process alone, then Ray with so many workers
    c  whole runs over so many images: time an image, and how far the peak of memory rose
    d  passes × measured cost of a bare pass, over the time taken: PGD, strongest, MC dropout,
       ODIN, and knockoff stealing
    e  what a million images on each of ten models would take, at that price of a worker's hour
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
EPSILON = 0.3
# Test images over and over, each time with ids of their own: as many as are asked for.
PLUGIN = '''"""MNIST's test images, repeated."""
from dataclasses import replace
from functools import cache
import os
import torch
from trustml.data.mnist import mnist
from trustml.registry import data


@cache
def _made(count, folder):
    known = mnist(folder=folder or os.environ.get("TRUSTML_DATA"), train_size=2000)
    rows = torch.arange(count) % len(known.test)
    test = replace(known.test.at(rows), ids=torch.arange(count) + 10**9)
    return replace(known, test=test)


@data(source="a comparison")
def repeated(*, folder: str | None, count: int = 1000):
    """Return MNIST with its test images repeated."""
    return _made(count, folder)
'''


def main() -> None:
    """Print the tables."""
    words = _words()
    if words.child:
        print(json.dumps(CHILDREN[words.child](words)))
        return
    import torch

    torch.set_num_threads(words.threads)
    name = torch.cuda.get_device_name() if words.device == "cuda" else os.uname().machine
    print(f"torch {torch.__version__}, {words.device} ({name}), {words.threads} threads\n")
    for section in words.sections:
        {"a": batches, "b": workers, "c": images, "d": floors, "e": prices}[section](words)
        print()


def batches(words: argparse.Namespace) -> None:
    """Section a."""
    setting = _setting(words)
    print("| batch | bare loop, images/s | trustml `pgd`, images/s | bare / trustml time |")
    print("|---|---|---|---|")
    for size in _numbers(words.batches):
        rows = min(max(words.images, size), len(setting.split))
        split = setting.split.at(slice(0, rows))
        exam = _exam(setting, "pgd:steps=40,step=0.01", words.device)
        bare, ours = _best(
            words.rounds,
            lambda s=split, b=size: [_bare_pgd(setting.module, part) for part in s.batches(b)],
            lambda s=split, b=size, e=exam: [_judged(e, part) for part in s.batches(b)],
        )
        print(f"| {size} | {rows / bare:.0f} | {rows / ours:.0f} | {bare / ours:.2f} |", flush=True)


def workers(words: argparse.Namespace) -> None:
    """Section b."""
    print("| workers | images/s of the run | of the local one | start-up s |")
    print("|---|---|---|---|")
    found: dict[int, list[dict[str, float]]] = {}
    counts = [0, *_numbers(words.workers)]
    # What the machine itself allows: so many processes that know nothing of each other.
    apart: dict[int, float] = {}
    for _ in range(words.rounds):
        for count in counts:
            found.setdefault(count, []).append(_child(words, "run", workers=str(count)))
            if count > 1:
                with ThreadPoolExecutor(count) as pool:
                    alone = pool.map(lambda _: _child(words, "run", workers="0"), range(count))
                    apart[count] = max(apart.get(count, 0), sum(one["rate"] for one in alone))
    rates = {count: max(one["rate"] for one in each) for count, each in found.items()}
    for count in counts:
        name = f"Ray, {count}" if count else "local"
        start = min(one["start"] for one in found[count])
        print(f"| {name} | {rates[count]:.1f} | {rates[count] / rates[0]:.2f} | {start:.1f} |")
    for count, rate in apart.items():
        name = f"{count} local runs side by side"
        print(f"| {name} | {rate:.1f} | {rate / rates[0]:.2f} | |")


def images(words: argparse.Namespace) -> None:
    """Section c."""
    sizes = _numbers(words.sizes)
    print("| images | seconds | ms an image | peak above what was there, MiB | the data, MiB |")
    print("|---|---|---|---|---|")
    for size in sizes:
        one = _child(words, "memory", images=str(size), most=str(max(sizes)))
        print(
            f"| {size} | {one['seconds']:.1f} | {1000 * one['seconds'] / size:.2f} "
            f"| {one['grown']:.0f} | {one['data']:.0f} |",
            flush=True,
        )


def floors(words: argparse.Namespace) -> None:
    """Section d."""
    setting = _setting(words)
    print("| work | forward + backward passes an image | s | floor, s | floor / time |")
    print("|---|---|---|---|---|")
    split = setting.split.at(slice(0, words.images))
    for text in ("pgd:steps=40,step=0.01", "strongest"):
        exam = _exam(setting, text, words.device)
        counted: list[Any] = []
        run = lambda e=exam, c=counted: c.append(_judged(e, split))  # noqa: E731
        forward, both, taken = _best(words.rounds, *_bare(setting.module, split), run)
        ahead, back = (float(getattr(counted[0], n).sum()) for n in ("forwards", "backwards"))
        _floor(text.split(":")[0], words, (ahead, back), (forward, both), taken)
    _floor_of_dropout(words)
    _floor_of_odin(words, setting, split)
    _floor_of_knockoff(words)


def prices(words: argparse.Namespace) -> None:
    """Section e."""
    setting, wanted = _setting(words), 10_000_000
    split = setting.split.at(slice(0, words.images))
    cost = f"at {words.price:g} an hour"
    print(f"| attack | images/s of one worker | worker-hours for 10⁶ × 10 | {cost} |")
    print("|---|---|---|---|")
    for text in ("pgd:steps=40,step=0.01", "strongest"):
        exam = _exam(setting, text, words.device)
        (taken,) = _best(words.rounds, lambda e=exam: _judged(e, split))
        hours = wanted * taken / len(split) / 3600
        name = text.split(":")[0]
        print(
            f"| {name} | {len(split) / taken:.1f} | {hours:.0f} | {hours * words.price:.0f} |",
            flush=True,
        )


def _floor_of_dropout(words: argparse.Namespace) -> None:
    from trustml.benchmarks.outputs import asked_again

    setting = _setting(words, "bnn:posterior=mc_dropout,body=cnn,epochs=1")
    split, draws = setting.split.at(slice(0, words.images)), 20
    ask = partial(asked_again, setting, split, _device(words), draws)
    forward, both, taken = _best(words.rounds, *_bare(setting.module, split), ask)
    # One pass for logits, one for features, then the draws; a pass here is one with dropout off.
    passes = (draws + 2) * words.images
    _floor("MC dropout, 20 draws", words, (passes, 0), (forward, both), taken)


def _floor_of_odin(words: argparse.Namespace, setting: Any, split: Any) -> None:
    from trustml.benchmarks.outputs import asked_again
    from trustml.benchmarks.suspicion import learnt
    from trustml.chains import read_chain

    seen = asked_again(setting, split, _device(words))
    scorer = learnt(read_chain("odin"), setting.module, seen, seen)
    forward, both, taken = _best(words.rounds, *_bare(setting.module, split), lambda: scorer(seen))
    count = words.images
    _floor("ODIN", words, (2 * count, count), (forward, both), taken)


def _floor_of_knockoff(words: argparse.Namespace) -> None:
    """Queries at the victim's forward pass, the copy's training at its own passes there and back.

    The copy is of the victim's kind, on the CPU as all thieves are.
    """
    import torch

    from trustml.contracts import Access, Terms
    from trustml.recipes import choose
    from trustml.store import build
    from trustml.training import seeded
    from trustml.victim import Service

    setting = _setting(argparse.Namespace(**{**vars(words), "device": "cpu"}))
    split, rows = setting.split.at(slice(0, words.images)), {True: 0, False: 0}
    thief = choose("stealer", f"knockoff:queries={words.images},epochs=20,snapshots=1")

    def fresh() -> Any:
        copy = build(setting.recipe_of_copy, split.domain, 0)

        def count(module: Any, given: Any, said: Any) -> None:
            rows[torch.is_grad_enabled()] += len(given[0])

        copy.register_forward_hook(count)
        return copy

    def steal() -> None:
        rows.update({True: 0, False: 0})
        victim = Service(
            setting.module, split.domain, Terms(answers=Access.PROBABILITIES, budget=words.images)
        )
        with seeded(0):
            thief.plugin.function(
                victim, split.x, fresh, random=torch.Generator().manual_seed(0), **thief.options
            )

    module = setting.module
    forward, both, taken = _best(words.rounds, *_bare(module, split, learning=True), steal)
    passes = (words.images + rows[True] + rows[False], rows[True])
    _floor("knockoff (victim and copy)", words, passes, (forward, both), taken)


def _floor(
    name: str,
    words: argparse.Namespace,
    passes: tuple[float, float],
    costs: tuple[float, float],
    taken: float,
) -> None:
    """Print a line; costs are those of a forward pass, and of one there and back, of all images."""
    count = words.images
    floor = ((passes[0] - passes[1]) * costs[0] + passes[1] * costs[1]) / count
    print(
        f"| {name} | {passes[0] / count:.1f} + {passes[1] / count:.1f} | {taken:.2f} "
        f"| {floor:.2f} | {floor / taken:.2f} |",
        flush=True,
    )


def _run(words: argparse.Namespace) -> dict[str, float]:
    """Return the rate of a whole run with so many workers, and what it took to have them ready."""
    import torch

    from trustml.benchmarks import harness

    torch.set_num_threads(words.threads)
    count = int(words.workers)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        if count:
            import ray

            ray.init(
                num_cpus=count, include_dashboard=False, log_to_driver=False,
                runtime_env={"env_vars": {"OMP_NUM_THREADS": str(words.threads)}},
                **({"num_gpus": count} if words.device == "cuda" else {}),
            )  # fmt: skip
        executor = "ray" if count else "local"
        # So many small batches that each worker has had one: it has then read its libraries.
        few = _plan(words, folder, 64 * max(count, 1), attack="pgd:steps=2", size=16)
        list(harness.start(few, Path(folder, "few"), executor))
        start = time.perf_counter() - began if count else 0.0
        plan = _plan(words, folder, words.images, attack="pgd:steps=40,step=0.01")
        began = time.perf_counter()
        records = list(harness.start(plan, Path(folder, "run"), executor))
        seconds = time.perf_counter() - began
    assert all(record.status == "done" for record in records), records
    return {"rate": words.images / seconds, "start": start}


def _memory(words: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a run, and the peak of memory above what lay there before it."""
    import torch

    from trustml import registry
    from trustml.benchmarks import harness
    from trustml.benchmarks.setting import load_data

    torch.set_num_threads(words.threads)
    with tempfile.TemporaryDirectory() as folder:
        text = "pgd:steps=10" if words.device == "cuda" else "fgsm"
        registry.load_file(_plugin(folder))
        data = f"repeated:count={words.most}"
        dataset = load_data(data, None)  # it stays: the plugin gives the same one again
        # A first run reads the libraries, and trains the model where there is none.
        few = _plan(words, folder, 600, attack=text, data=data)
        list(harness.start(few, Path(folder, "few")))
        before = _resident()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is there
        plan = _plan(words, folder, words.images, attack=text, data=data)
        began = time.perf_counter()
        records = list(harness.start(plan, Path(folder, "run")))
        seconds = time.perf_counter() - began
        grown = _resident("VmHWM") - before
    assert all(record.status == "done" for record in records), records
    size = dataset.test.x.numel() * 4 / 2**20
    return {"seconds": seconds, "grown": grown, "data": size}


CHILDREN: dict[str, Callable[[argparse.Namespace], dict[str, float]]] = {
    "run": _run,
    "memory": _memory,
}


def _child(words: argparse.Namespace, task: str, **changes: str) -> dict[str, float]:
    """Return what a process of its own measured."""
    given = {**vars(words), **changes, "child": task}
    command = [sys.executable, str(HERE)]
    command += [f"--{name}={value}" for name, value in given.items() if value not in ("", None)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(words.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _plan(
    words: argparse.Namespace,
    folder: str,
    limit: int,
    *,
    attack: str,
    size: int = 128,
    data: str = "",
) -> Any:
    from trustml.benchmarks.plan import Plan

    count = max(limit, 1000)
    return Plan(
        models=(_model(words),), attacks=(attack,), data=data or f"repeated:count={count}",
        epsilons=(EPSILON,), certify="off", indicators=False, device=words.device, limit=limit,
        batch_size=size, plugins=(_plugin(folder),),
    )  # fmt: skip


def _plugin(folder: str) -> str:
    path = Path(folder, "repeated.py")
    if not path.exists():
        path.write_text(PLUGIN)
    return str(path)


def _model(words: argparse.Namespace) -> str:
    return f"cnn:weights={Path(words.weights).resolve()}" if words.weights else "cnn:epochs=1"


class _Set:
    """A trained model and the test images that it reads rightly."""

    def __init__(self, words: argparse.Namespace, text: str) -> None:
        from trustml.benchmarks.blocks import fitting_blocks
        from trustml.benchmarks.setting import placed
        from trustml.data.mnist import mnist
        from trustml.recipes import of_a_copy, read_recipe
        from trustml.store import trained

        data = mnist(folder=os.environ.get("TRUSTML_DATA"))
        self.recipe = read_recipe(text)
        self.recipe_of_copy = of_a_copy(self.recipe)
        self.module = placed(trained(self.recipe, data, 0, words.device).module, _device(words))
        import torch

        with torch.no_grad():
            x = data.test.x.to(words.device)
            right = (self.module(x).argmax(1).cpu() == data.test.y).nonzero().flatten()
        self.split = data.test.at(right)
        self.right = torch.ones(len(right), dtype=torch.bool)
        self.blocks = fitting_blocks(self.module, self.split.x[:256].to(words.device))
        self.notes: tuple[str, ...] = ()


def _setting(words: argparse.Namespace, text: str = "") -> Any:
    return _Set(words, text or _model(words))


def _exam(setting: Any, text: str, device: str) -> Any:
    import torch

    from trustml.benchmarks.judge import Exam
    from trustml.recipes import choose

    return Exam(
        setting, choose("attack", text), "linf", EPSILON, "none", 0, 0, torch.device(device),
        precision="auto",
    )  # fmt: skip


def _judged(exam: Any, part: Any) -> Any:
    from trustml.benchmarks.judge import judged

    return judged(exam, part)[0]


def _bare_pgd(model: Any, split: Any) -> Any:
    """Return candidates after 40 steps of sign and clamp: what no attack can do without."""
    import torch

    device = next(model.parameters()).device
    x, y = split.x.to(device), split.y.to(device)
    moved = (x + EPSILON * (2 * torch.rand_like(x) - 1)).clamp(0, 1)
    for _ in range(40):
        moved.requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(moved), y, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        step = moved.detach() + 0.01 * gradient.sign()
        moved = torch.clamp(torch.clamp(step, x - EPSILON, x + EPSILON), 0, 1)
    with torch.no_grad():
        return model(moved).argmax(1)


def _bare(
    model: Any, split: Any, *, learning: bool = False
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a forward pass over all images, and one there and back, in batches of 256."""
    import torch

    device = next(model.parameters()).device
    parts = [(part.x.to(device), part.y.to(device)) for part in split.batches(256)]
    parameters = [p for p in model.parameters() if p.dtype.is_floating_point]
    for parameter in parameters:
        parameter.requires_grad_(learning)

    def forward() -> None:
        with torch.no_grad():
            for x, _ in parts:
                model(x)

    def both() -> None:
        for x, y in parts:
            given = x if learning else x.detach().requires_grad_()
            loss = torch.nn.functional.cross_entropy(model(given), y)
            torch.autograd.grad(loss, parameters if learning else given)

    return forward, both


def _best(rounds: int, *runs: Callable[[], Any]) -> list[float]:
    """Return the least seconds of each run; their rounds take turns, after one that warms up."""
    import torch

    best = [float("inf")] * len(runs)
    for number in range(rounds + 1):
        for place, run in enumerate(runs):
            began = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                best[place] = min(best[place], time.perf_counter() - began)
    return best


def _device(words: argparse.Namespace) -> Any:
    import torch

    return torch.device(words.device)


def _resident(name: str = "VmRSS") -> float:
    """Return the memory of this process in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def _numbers(text: str) -> list[int]:
    return [int(part) for part in str(text).split(",")]


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--sections", default="abcde")
    parser.add_argument("--weights", default="")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", default="1,8,64,256,512,1024")
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--price", type=float, default=1.0)
    parser.add_argument("--most", default="0", help=argparse.SUPPRESS)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
