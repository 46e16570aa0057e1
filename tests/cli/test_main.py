"""The command: what it prints, and that each failure is one line and the right exit code."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trustml.benchmarks.discipline import CASES, SAMPLES
from trustml.benchmarks.harness import RECORDS
from trustml.benchmarks.plan import PLAN
from trustml.records import from_line, read_records

COMMANDS = ("bench", "show", "compare", "verify", "list", "train", "explain")


def _failed(ended, code: int, said: str) -> None:
    """Check for one line that says it, no traceback, and the exit code."""
    lines = ended.err.strip().splitlines()
    assert ended.code == code, ended.err
    assert len(lines) == 1, ended.err
    assert lines[0].startswith("Error: ")
    assert said in lines[0]


def test_a_run_prints_a_table_and_its_folder(trustml, toys) -> None:
    """By hand: 20 of 22 read rightly, 10 of them lost, which is 45.5 %."""
    ended = trustml("bench", *toys, "--out", "run")
    assert ended.code == 0
    assert ended.err == ""
    for word in ("noise of the same budget", "aim", "all attacks together", "90.9", "45.5"):
        assert word in ended.out
    assert "Verdict: largest reads 90.9 % of toy rightly" in ended.out
    assert "The run lies in run" in ended.out
    assert max(len(line) for line in ended.out.splitlines()) <= 100
    assert Path("run", RECORDS).is_file()


def test_a_run_has_a_folder_of_its_own_unless_told(trustml, toys) -> None:
    for name in ("aim-largest-toy", "aim-largest-toy-2"):
        assert f"trustml-runs/{name}" in trustml("bench", *toys).out
        assert Path("trustml-runs", name, PLAN).is_file()


def test_json_is_nothing_but_lines_of_it(trustml, toys) -> None:
    for words in (("bench", *toys, "--out", "run"), ("show", "run"), ("bench", "--resume", "run")):
        ended = trustml(*words, "--json")
        records = [from_line(line) for line in ended.out.splitlines()]
        assert records == read_records(Path("run", RECORDS))
        assert ended.err == ""
    rows = [
        json.loads(line) for line in trustml("compare", "run", "run", "--json").out.splitlines()
    ]
    assert [row["case"] for row in rows] == [record.case for record in records]
    for line in trustml("list", "--json").out.splitlines():
        assert {"kind", "name", "source", "options"} <= set(json.loads(line))


def test_show_prints_what_bench_printed(trustml, toys) -> None:
    ended = trustml("bench", *toys, "--out", "run")
    assert trustml("show", "run").out == ended.out


def test_show_tells_how_far_a_stopped_run_came(trustml, toys) -> None:
    trustml("bench", *toys, "--out", "run")
    lines = Path("run", RECORDS).read_text().splitlines(keepends=True)
    for count in (1, 0):
        Path("run", RECORDS).write_text("".join(lines[:count]))
        ended = trustml("show", "run")
        assert ended.code == 0
        assert f"{count} of 3 cases are finished. Continue with: trustml bench --resume run" in (
            ended.out
        )
    assert trustml("bench", "--resume", "run").code == 0


def test_verify_says_what_holds(trustml, toys) -> None:
    trustml("bench", *toys, "--attack", "fails", "--out", "run")
    ended = trustml("verify", "run")
    assert ended.code == 0
    assert "holds: largest-linf-0.1-aim" in ended.out
    assert "nothing to check: largest-linf-0.1-fails (failed)" in ended.out
    assert "Every claim of the 4 cases in run holds." in ended.out


def test_verify_names_the_sample_of_a_flipped_byte(trustml, toys) -> None:
    trustml("bench", *toys, "--out", "run")
    path = Path("run", CASES, "largest-linf-0.1-aim", SAMPLES)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    _failed(trustml("verify", "run"), 1, "sample 21 (id 3021) is not as it was written")


def test_compare_prints_a_row_a_case(trustml, toys) -> None:
    trustml("bench", *toys, "--out", "a")
    ended = trustml("compare", "a", "a")
    assert ended.code == 0
    assert "largest-linf-0.1-aim" in ended.out
    assert "+0.0" in ended.out


def test_a_failed_case_ends_in_one(trustml, toys) -> None:
    """The others are finished and printed."""
    ended = trustml("bench", *toys, "--attack", "fails", "--out", "run")
    assert ended.code == 1
    assert "fails raised KeyError" in ended.out
    assert "45.5" in ended.out
    assert [r.status for r in read_records(Path("run", RECORDS))] == [
        "done", "done", "failed", "done",
    ]  # fmt: skip


def test_a_skipped_case_is_no_failure(trustml, toys) -> None:
    ended = trustml("bench", *toys, "--attack", "unfit", "--out", "run")
    assert ended.code == 0
    assert "skipped: unfit: it needs a tree" in ended.out


@pytest.mark.parametrize("word", [(), ("--json",)])
def test_a_run_that_measured_nothing_ends_in_one(trustml, toys, word: tuple[str, ...]) -> None:
    """Noise and the row of all stand there unasked; `show` and `--resume` say the same of it."""
    toys = toys[:-2]  # without the attack
    words = (*toys, "--attack", "unfit", "--out", "run")
    for asked in (("bench", *words), ("bench", "--resume", "run"), ("show", "run")):
        ended = trustml(*asked, *word)
        _failed(ended, 1, "nothing was measured, for all that was asked for was skipped")
        assert "unfit: it needs a tree" in ended.err
        assert "Traceback" not in ended.out
    assert [r.status for r in read_records(Path("run", RECORDS))] == [
        "done", "skipped", "skipped",
    ]  # fmt: skip
    assert trustml("bench", *toys, "--attack", "noise", "--out", "noise").code == 0


def test_methods_that_suit_no_model_are_no_success(trustml) -> None:
    """Random maps stand there unasked; grad_cam is for convolutions, linear_exact for lines."""
    words = ("bench", "--model", "mlp:epochs=2", "--limit", "5", "--attribution")
    for method in ("grad_cam", "linear_exact"):
        _failed(trustml(*words, method, "--out", method), 1, f"was skipped: {method}: ")
    assert trustml(*words, "random", "--out", "random").code == 0


def test_a_model_of_other_classes_is_refused_before_anything_is_written(trustml) -> None:
    """Of three classes where the data have ten, in the words of who asks."""
    Path("three.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))\n"
    )
    words = ("--model", "logistic", "--limit", "5", "--out", "run")
    for word in ("surrogate", "model"):
        text = "three.py:build"
        given = ("--attack", "fgsm", f"--{word}", text, *words)
        said = f"--{word} {text}: the model answers 3 classes; the data have 10"
        _failed(trustml("bench", *given), 2, said)
        assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model mpl", "no model named 'mpl'; did you mean 'mlp'"),
        ("--attack pdg", "no attack named 'pdg'; did you mean"),
        ("--attack pgd:stepz=3", "no option of pgd named 'stepz'; did you mean"),
        ("--attack pgd:steps=x", "pgd:steps='x' is not a whole number"),
        ("--attack pgd:steps=-1 --limit 3", "steps=-1"),
        ("--attack pgd:restarts=0 --limit 3", "restarts=0"),
        ("--attack pgd:steps", "not key=value"),
        ("--attack pgd:steps=[3", "has no partner"),
        ("--attack=", "has no name"),
        ("--model=", "is no recipe"),
        ("--data=", "has no name"),
        ("--model mlp+", "is no recipe"),
        ("--model mlp:hidden=[0]", "width"),
        ("--model mlp:epochs=0", "epochs=0"),
        ("--model mlp:weights=/absent.pt", "/absent.pt: no such file"),
        ("--data digit", "no data named 'digit'; did you mean 'digits'"),
        ("--data npz:path=/absent.npz", "no such file or folder"),
        ("--data mnist --data-dir /absent", "--data-dir /absent: no such folder"),
        ("--epsilon 0", "above 0, not 0.0"),
        ("--epsilon -1", "above 0, not -1.0"),
        ("--epsilon nan", "'nan' must be a finite number above 0"),
        ("--epsilon inf", "'inf' must be a finite number above 0"),
        ("--epsilon abc", "'abc' must be a finite number above 0, such as 0.1 or 8/255"),
        ("--epsilon 1/0", "'1/0' must be a finite number"),
        ("--epsilon=", "'' must be a finite number"),
        ("--norm l0 --attack pgd", "'pgd' does not know l0, just linf, l2, l1; these know it:"),
        ("--norm l3", "no norm named 'l3'; did you mean"),
        ("--shard 3/2", "--shard 3/2: parts are numbered from 0, so write 0/2 to 1/2"),
        ("--shard half", "--shard 'half' must be I/N"),
        ("--shard 5/10 --limit 3", "of 3 samples is empty"),
        ("--limit -1", "--limit must be 1 or more, not -1"),
        ("--limit many", "'many' is not a valid integer"),
        ("--batch-size -1", "--batch-size '-1' must be a number of samples"),
        ("--batch-size 0", "--batch-size '0' must be a number of samples"),
        ("--batch-size all", "--batch-size 'all' must be a number of samples"),
        ("--seed -1", "--seed must be 0 or more"),
        ("--seed 99999999999999999999", "--seed must be below 2^63"),
        ("--target 10", "has classes 0 to 9"),
        ("--target most", "--target must be none, next or a class number"),
        ("--order none", "no order named 'none'"),
        ("--device gpu", "no device named 'gpu'; did you mean 'cpu'"),
        ("--device mps" if not torch.backends.mps.is_available() else "--device m", "mps"),
        ("--plugin /absent.py", "--plugin /absent.py: no such file"),
        ("--resume absent", "leave --model out, or start another run"),
        ("--certify all", "no certify named 'all'"),
        ("--precision half", "no precision named 'half'"),
        ("--seeds 0", "--seeds must be 1 or more, not 0"),
        ("--epsilon 1", "lets any input become any other"),
        ("--atack pgd", "--atack"),
        ("more", "unexpected extra argument"),
    ],
)
def test_a_wrong_word_is_answered_in_one_line(trustml, words: str, said: str) -> None:
    """Exit code 2: the person can put it right."""
    _failed(trustml("bench", "--model", "logistic", "--out", "run", *words.split()), 2, said)


def test_a_run_that_is_not_there_cannot_be_resumed(trustml) -> None:
    _failed(trustml("bench", "--resume", "absent"), 2, "absent holds no run")
    _failed(trustml("bench", "--resume="), 2, "holds no run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_named(trustml) -> None:
    _failed(trustml("bench", "--device", "cuda"), 2, "torch sees 0 CUDA devices")


def test_a_folder_that_will_not_do_is_named(trustml, toys) -> None:
    Path("file").write_text("")
    Path("full").mkdir()
    Path("full", "letter").write_text("")
    trustml("bench", *toys, "--out", "run")
    for name, said in {
        "file": "Not a directory",
        "file/inside": "cannot be written",
        "full": "full is not empty",
        "run": "continue it with --resume run",
        "": "is not empty",
    }.items():
        _failed(trustml("bench", *toys, "--out", name), 2, said)


def test_names_may_hold_what_a_screen_takes_for_markup(trustml, toys) -> None:
    ended = trustml("bench", *toys, "--out", "[/red] :smile: [b]")
    assert ended.code == 0
    assert "The run lies in [/red] :smile: [b]" in ended.out


def test_damaged_files_of_a_run_are_named(trustml, toys) -> None:
    trustml("bench", *toys, "--out", "run")
    Path("run", RECORDS).write_bytes(b"\xff\n")
    for words in (("show", "run"), ("bench", "--resume", "run"), ("compare", "run", "run")):
        _failed(trustml(*words), 2, "records.jsonl, line 1")
    _failed(trustml("verify", "run"), 1, "records.jsonl, line 1")
    for content in (b"", b"\xff", b"[]", b'{"models": [3], "attacks": [4]}'):
        Path("run", PLAN).write_bytes(content)
        for words in (("show", "run"), ("bench", "--resume", "run"), ("verify", "run")):
            _failed(trustml(*words), 2, "plan.json")


@pytest.mark.parametrize("command", ["show", "verify"])
def test_a_folder_without_a_run_is_named(trustml, command: str) -> None:
    _failed(trustml(command, "absent"), 2, "absent holds no run")
    _failed(trustml(command), 2, "Missing argument")


def test_show_draws_what_was_fooled(trustml) -> None:
    """A PNG begins with its signature; where nothing was fooled there is nothing to draw."""
    words = ("bench", "--model", "logistic", "--limit", "40", "--out")
    trustml(*words, "run")
    assert "drawn: a.png" in trustml("show", "run", "--picture", "a.png").out
    assert Path("a.png").read_bytes().startswith(b"\x89PNG\r\n")
    trustml(*words, "tiny", "--epsilon", "1e-9")
    _failed(trustml("show", "tiny", "--picture", "b.png"), 2, "nothing was fooled")


def test_no_command_is_a_question(trustml) -> None:
    ended = trustml()
    assert ended.code == 0
    assert "Usage:" in ended.out
    assert all(command in ended.out for command in COMMANDS)
    _failed(trustml("bnech"), 2, "bnech")
    assert trustml("--version").out.startswith("trustml")


def _python(code: str, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


@pytest.mark.parametrize("words", [(), *[(command,) for command in COMMANDS]])
def test_help_needs_no_torch(words: tuple[str, ...]) -> None:
    """Nor any other heavy library; marks of the help's source must not be seen."""
    code = """if True:
        import sys
        from trustml.cli.main import main
        try:
            main()
        finally:
            heavy = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "rich"} & set(sys.modules)
            print(heavy or "light", file=sys.stderr)
    """
    done = _python(code, *words, "--help")
    assert done.returncode == 0
    assert done.stderr.strip() == "light"
    assert "Usage:" in done.stdout
    assert "Example" in done.stdout
    assert "\\b" not in done.stdout


def test_a_listing_needs_no_torch() -> None:
    code = """if True:
        import sys
        from trustml.cli.main import main
        try:
            main()
        finally:
            print("torch" in sys.modules)
    """
    done = _python(code, "list")
    assert done.returncode == 0
    assert done.stdout.endswith("False\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_screen_that_takes_nothing_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "trustml", "list"], stdout=full, stderr=subprocess.PIPE,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error() -> None:
    """As `trustml list | head -1`."""
    with subprocess.Popen(
        [sys.executable, "-m", "trustml", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


def test_a_stop_ends_in_130_and_says_how_to_go_on(trustml, toys) -> None:
    """In the middle of an attack whose batches take their time; then the rest is done."""
    words = [*toys[:-1], "slow:seconds=0.5", "--batch-size", "1", "--out", "run"]
    with subprocess.Popen(
        [sys.executable, "-m", "trustml", "bench", *words], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        # Whoever runs the tests in the background has them ignore it, and their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        until = time.monotonic() + 240
        while not list(Path("run").glob("cases/*slow/batches/000001*")):
            assert time.monotonic() < until, "the attack never began"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip() == "Stopped. Continue with: trustml bench --resume run"
    assert out == ""
    facts = json.loads(Path("run", PLAN).read_text())
    facts["attacks"] = [text.replace("seconds=0.5", "seconds=0.0") for text in facts["attacks"]]
    Path("run", PLAN).write_text(json.dumps(facts))
    ended = trustml("bench", "--resume", "run")
    assert ended.code == 0
    assert "45.5" in ended.out


def test_corruptions_know_the_automatic_batch_size(trustml) -> None:
    words = ("--model", "logistic", "--limit", "5", "--batch-size", "auto")
    assert trustml("bench", "--corruption", "fog", *words, "--out", "run").code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--device cuad", "no device named 'cuad'; did you mean 'cuda'"),
        ("--limit 0", "--limit must be 1 or more, not 0"),
        ("--attack pgd --attack pgd", "--attack pgd stands twice"),
        ("--workers 3", "--workers needs --executor ray"),
        ("--workers -1", "--workers must be 0 (all that there are) or more"),
        ("--executor rya", "no executor named 'rya'; did you mean 'ray'"),
        ("--attack pgd:steps=0", "steps=0"),
        ("--data-dir absent", "--data-dir absent: no such folder"),
        ("--batch-size 0", "--batch-size '0' must be a number of samples"),
        ("--epsilon nan", "--epsilon 'nan' must be a finite number above 0"),
    ],
)
def test_a_request_that_is_none_leaves_nothing(trustml, words: str, said: str) -> None:
    """Not even the folder; a certificate that came before the attack was not asked for."""
    given = ("--model", "logistic", "--limit", "5", "--out", "run")
    _failed(trustml("bench", *given, *words.split()), 2, said)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "words",
    ["audit mlp --data-dir absent", "train --model mlp --data-dir absent",
     "explain mlp --input 3 --data-dir absent", "target m.onnx --data-dir absent"],
)  # fmt: skip
def test_a_folder_of_data_that_is_not_there_is_named(trustml, words: str) -> None:
    """Also for data that need no folder, which would not look."""
    _failed(trustml(*words.split()), 2, "--data-dir absent: no such folder")


def test_an_audit_in_the_place_of_a_file_is_refused(trustml) -> None:
    Path("file").write_text("")
    for name in ("file", "file/in"):
        _failed(trustml("audit", "mlp", "--out", name), 2, f"--out {name}: file is a file")


def test_every_command_has_an_example_and_is_listed_whole(trustml) -> None:
    """Also those of provenance; a help that ends in dots says nothing to who chooses."""
    from trustml.cli.main import cli

    inner = cli.commands["provenance"].commands
    for words in (*((name,) for name in cli.commands), *(("provenance", name) for name in inner)):
        assert "Example" in trustml(*words, "--help").out, words
    for words in (("--help",), ("provenance", "--help")):
        assert "..." not in trustml(*words).out.partition("Commands:")[2]


def test_every_option_is_described(trustml) -> None:
    from trustml.cli.main import cli

    commands = [*cli.commands.values(), *cli.commands["provenance"].commands.values()]
    for command in commands:
        for option in command.params:
            assert option.param_type_name == "argument" or option.help, (command.name, option.name)
