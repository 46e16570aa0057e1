"""Served models: equal to the model behind the server, polite, and one clear line when it fails."""

import json
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.targets.conftest import inputs
from tests.targets.servers import StandIn, late, output, say
from trustml.contracts import Access, Terms
from trustml.errors import BadInput, BudgetSpent, MethodFailed, UsageError
from trustml.fingerprint import fingerprint
from trustml.oracle import oracle
from trustml.stealing.linear_exact import linear_exact
from trustml.targets import _http

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _logits(x: Tensor) -> Tensor:
    """A linear model of 64 numbers that every test here serves."""
    weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(1))
    return x.float().flatten(1) @ weight.T


def _probabilities(x: Tensor) -> Tensor:
    return _logits(x).softmax(1)


@pytest.fixture
def server() -> Iterator[StandIn]:
    """A server of logits that declares its shape."""
    stand_in = StandIn(_logits, shape=[64])
    yield stand_in
    stand_in.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait a hundredth of the time between tries."""
    monkeypatch.setattr(_http, "_FIRST_WAIT", 0.0025)


def _template(folder: Path, url: str, **words: Any) -> Path:
    held = {"uri": f"{url}/classify", "request": {"pixels": "$INPUT"}, "answer": "$.result[*].p"}
    path = folder / "service.json"
    path.write_text(json.dumps(held | words))
    return path


@pytest.mark.parametrize("protocol", ["open inference", "mlflow", "template"])
@pytest.mark.parametrize(
    ("answer", "says"), [(_logits, "LOGITS"), (_probabilities, "PROBABILITIES")]
)
def test_answers_are_the_models(
    protocol: str, answer: Any, says: str, server: StandIn, tmp_path: Path, open_target: Any
) -> None:
    """All three protocols; float32 goes through JSON and back without a change."""
    server.answer = answer
    texts = {
        "open inference": f"{server.url}/v2/models/digits",
        "mlflow": f"{server.url}/invocations:input_shape=[64]",
        "template": f"{_template(tmp_path, server.url)}:input_shape=[64]",
    }
    target = open_target(texts[protocol])
    x = inputs(70)
    torch.testing.assert_close(target(x), answer(x), rtol=0, atol=1e-6)
    assert target.access == target.says == Access[says]
    assert torch.equal(target.module(x).argmax(1), answer(x).argmax(1))
    assert target.deterministic


@pytest.mark.parametrize("protocol", ["open inference", "mlflow", "template"])
@pytest.mark.parametrize("level", ["LOGITS", "PROBABILITIES", "LABELS"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_served_model_is_a_victim(
    protocol: str, level: str, precision: str, server: StandIn, tmp_path: Path, open_target: Any
) -> None:
    """By `trustml.oracle` a thief meets it over the wire, in either precision, each query counted.

    65 numbers a class are solved for: to the rounding of the precision, which JSON carries whole.
    """

    def weights(x: Tensor) -> Tensor:
        weight = torch.randn(10, 64, generator=torch.Generator().manual_seed(1))
        return x.flatten(1) @ weight.T.to(x.dtype)

    answers = {
        "LOGITS": weights,
        "PROBABILITIES": lambda x: weights(x).softmax(1),
        "LABELS": lambda x: [int(n) for n in weights(x).argmax(1)],
    }
    server.answer, server.dtype = answers[level], getattr(torch, precision)
    server.shape = None
    texts = {
        "open inference": f"{server.url}/v2/models/digits",
        "mlflow": f"{server.url}/invocations:input_shape=[64]",
        "template": f"{_template(tmp_path, server.url)}:input_shape=[64]",
    }
    target = open_target(texts[protocol])
    before = server.rows
    victim = oracle(target, target.domain, Terms(answers=Access[level], precision=precision))
    assert victim.terms.answers == target.says
    seen = fingerprint(victim, torch.Generator().manual_seed(0))
    assert seen.answers == level.lower()
    assert seen.deterministic
    if level != "LABELS":
        assert "linear_exact" in seen.methods
        theft = linear_exact(victim, inputs(3).to(victim.dtype), lambda: None,
                             random=torch.Generator().manual_seed(0))  # fmt: skip
        x = inputs(50).double()
        gap = theft.copy(x).softmax(1) - weights(x).softmax(1)
        assert float(gap.detach().abs().max()) < (1e-3 if precision == "float32" else 1e-10)
    assert victim.queries == server.rows - before


@pytest.mark.parametrize("names", [None, NAMES])
def test_labels_are_one_hot(server: StandIn, open_target: Any, names: Any) -> None:
    """Numbers by themselves; names only if somebody has said their order."""
    server.answer = lambda x: [names[n] if names else int(n) for n in _logits(x).argmax(1)]
    url = f"{server.url}/v2/models/digits"
    if names:
        with pytest.raises(BadInput, match=r"answered the label .* by classes=\[…\]"):
            open_target(url)
        url += f":classes=[{','.join(names)}]"
    target = open_target(url)
    x = inputs()
    truth = torch.nn.functional.one_hot(_logits(x).argmax(1), 10).float()
    assert torch.equal(target(x), truth)
    assert target.access == Access.LABELS


def test_a_template_of_one_input_a_request_with_named_labels(
    server: StandIn, tmp_path: Path, open_target: Any
) -> None:
    """TOML, a nested request, a label at a path; each request carries one input."""
    server.answer = lambda x: [NAMES[n] for n in _logits(x).argmax(1)]
    (tmp_path / "one.toml").write_text(
        f'uri = "{server.url}/one"\nanswer = "$.label"\n[request.q]\nimage = "$ROW"\n'
    )
    target = open_target(f"{tmp_path / 'one.toml'}:classes=[{','.join(NAMES)}],input_shape=[64]")
    x = inputs(5)
    assert torch.equal(target(x).argmax(1), _logits(x).argmax(1))


def test_mlflow_tables(server: StandIn, open_target: Any) -> None:
    """Columns by name go as dataframe_split; probabilities by name are read in the names' order."""
    server.answer = lambda x: [
        {name: float(p) for name, p in zip(NAMES, row, strict=True)} for row in _probabilities(x)
    ]
    columns = ",".join(f"pixel{n}" for n in range(64))
    target = open_target(
        f"{server.url}/invocations:columns=[{columns}],classes=[{','.join(NAMES)}]"
    )
    x = inputs(6)
    torch.testing.assert_close(target(x), _probabilities(x), rtol=0, atol=1e-6)


def test_a_model_behind_mlserver_style_labels_is_asked_for_probabilities(
    server: StandIn, open_target: Any
) -> None:
    """A server that answers labels unless asked for predict_proba, as MLServer's scikit-learn."""

    def trouble(number: int, handler: Any) -> bool:
        return False

    plain = server._model

    def model(handler: Any, body: Any) -> None:
        wanted = [one["name"] for one in body.get("outputs", [])]
        server.answer = _probabilities if wanted == ["predict_proba"] else _as_numbers
        if wanted == ["predict_proba"]:
            given = body["inputs"][0]
            x = torch.tensor(given["data"]).view(given["shape"])
            say(handler, 200, {"outputs": [output(_probabilities(x)) | {"name": "predict_proba"}]})
        else:
            plain(handler, body)

    server._model = model  # type: ignore[method-assign]
    target = open_target(f"{server.url}/v2/models/digits")
    x = inputs(4)
    assert target.says == Access.PROBABILITIES
    torch.testing.assert_close(target(x), _probabilities(x), rtol=0, atol=1e-6)


def _as_numbers(x: Tensor) -> list[int]:
    return [int(n) for n in _logits(x).argmax(1)]


def test_a_server_that_says_no_shape_is_given_the_datas_or_one_row(
    server: StandIn, open_target: Any
) -> None:
    """As scikit-learn's servers: four axes are an error, a row of numbers is not."""
    server.shape = None

    def flat_only(x: Tensor) -> Tensor:
        assert x.dim() == 2
        return _logits(x)

    server.answer = flat_only
    x = inputs(3)
    for path in ("/v2/models/digits", "/invocations"):
        target = open_target(server.url + path)
        torch.testing.assert_close(target(x), _logits(x), rtol=0, atol=1e-6)
        assert any("one row of numbers" in note for note in target.notes)
        assert target.domain.shape == (1, 8, 8)

    def neither(x: Tensor) -> Tensor:
        raise ValueError

    server.answer = neither
    with pytest.raises(BadInput, match="say input_shape="):
        open_target(f"{server.url}/invocations")


def test_repeats_that_fill_a_block_are_asked_once(server: StandIn, open_target: Any) -> None:
    """The harness fills a block of 64 with the last row: a server must not be charged for it."""
    target = open_target(f"{server.url}/v2/models/digits")
    before = server.rows
    x = inputs(3)
    filled = torch.cat([x, x[-1:].expand(61, *x.shape[1:])])
    torch.testing.assert_close(target(filled), _logits(filled), rtol=0, atol=1e-6)
    assert server.rows - before == 3


def test_requests_go_side_by_side_and_in_order(server: StandIn, open_target: Any) -> None:
    """Eight parts of five by four workers: at most four are in flight, and more than one is."""
    target = open_target(f"{server.url}/v2/models/digits:batch=5,workers=4")
    server.trouble, server.most = late(0.03), 0
    x = inputs(40)
    torch.testing.assert_close(target(x), _logits(x), rtol=0, atol=1e-6)
    assert 1 < server.most <= 4


def test_the_rate_is_kept(server: StandIn, open_target: Any) -> None:
    """Eight requests at forty a second take at least seven fortieths of a second."""
    target = open_target(f"{server.url}/v2/models/digits:batch=5,rate=40")
    began = time.monotonic()
    target(inputs(40))
    assert time.monotonic() - began >= 7 / 40


def test_the_budget_is_kept(server: StandIn, open_target: Any) -> None:
    """16 inputs are spent on opening; a call that goes beyond is not begun."""
    target = open_target(f"{server.url}/v2/models/digits:budget=40")
    spent = target.module.body.client.queries
    assert spent == server.rows
    with pytest.raises(BudgetSpent, match="the budget is 40 queries"):
        target(inputs(41 - spent))
    assert server.rows == spent
    target(inputs(40 - spent))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(server: StandIn, open_target: Any, status: int) -> None:
    """Three refusals, then fine: the answers are as if nothing had been."""
    target = open_target(f"{server.url}/v2/models/digits:workers=1")
    first = server.requests

    def trouble(number: int, handler: Any) -> bool:
        if number - first > 3:
            return False
        say(handler, status, {"error": "busy"})
        return True

    server.trouble = trouble
    x = inputs(4)
    torch.testing.assert_close(target(x), _logits(x), rtol=0, atol=1e-6)
    assert target.module.body.client.repeated == 3


def test_retry_after_is_obeyed_within_reason(server: StandIn, open_target: Any) -> None:
    """One second is waited; an hour is not: the run can be resumed then."""
    target = open_target(f"{server.url}/v2/models/digits")
    first = server.requests

    def trouble(number: int, handler: Any) -> bool:
        if number - first > 1:
            return False
        say(handler, 429, {}, Retry_After="1")
        return True

    server.trouble = trouble
    began = time.monotonic()
    target(inputs(1))
    assert time.monotonic() - began >= 1

    def hour(number: int, handler: Any) -> bool:
        say(handler, 429, {}, Retry_After="3600")
        return True

    server.trouble = hour
    with pytest.raises(MethodFailed, match="asks to wait 3600 s"):
        target(inputs(1))


def test_a_server_that_goes_and_comes_back(server: StandIn, open_target: Any) -> None:
    """Away: a line that says so. Back at the same address: it goes on without being opened anew."""
    target = open_target(f"{server.url}/v2/models/digits")
    server.stop()
    with pytest.raises(MethodFailed, match=r"does not answer after 6 tries: Connection refused"):
        target(inputs(2))
    server.again()
    torch.testing.assert_close(target(inputs(2)), _logits(inputs(2)), rtol=0, atol=1e-6)


def test_a_slow_server_is_given_up(server: StandIn, open_target: Any) -> None:
    """The limit is of one answer."""
    target = open_target(f"{server.url}/v2/models/digits:timeout=0.1")
    server.trouble = late(0.5)
    with pytest.raises(MethodFailed, match=r"no answer within 0\.1 s"):
        target(inputs(1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://127.0.0.1:1/v2/models/digits", "does not answer: Connection refused"),
        ("http://127.0.0.1:1/invocations", "does not answer: Connection refused"),
        ("http://no.such.host.invalid/v2/models/digits", "does not answer: "),
        ("{url}/v2/models/other", "answers 404: .*no /v2/models/other"),
    ],
)
def test_a_wrong_address_is_said_at_once(
    server: StandIn, open_target: Any, text: str, said: str
) -> None:
    """No tries, no waiting: nothing was ever there."""
    with pytest.raises(BadInput, match=said):
        open_target(text.format(url=server.url))


def test_the_number_of_classes_must_be_the_datas(server: StandIn, open_target: Any) -> None:
    """Seven are not ten."""
    server.answer = lambda x: _logits(x)[:, :7]
    with pytest.raises(BadInput, match="answers 7 classes; the data have 10"):
        open_target(f"{server.url}/v2/models/digits")


def test_probabilities_are_not_logits(server: StandIn, open_target: Any) -> None:
    """What is said is held against what is answered, both ways."""
    server.answer = _probabilities
    with pytest.raises(BadInput, match="look like probabilities"):
        open_target(f"{server.url}/v2/models/digits:answers=logits")
    server.answer = _logits
    with pytest.raises(BadInput, match="should answer probabilities"):
        open_target(f"{server.url}/v2/models/digits:answers=probabilities")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"detail": "moved"}, "answers without outputs"),
        ({"outputs": []}, "answers nothing"),
        (
            {"outputs": [{"name": "y", "datatype": "FP32", "shape": [2, 10], "data": [0.5]}]},
            "1 values",
        ),
        ({"outputs": [output(torch.rand(1, 10))]}, "gives 1 answers to 2"),
        ({"outputs": [output(torch.full((2, 10), float("nan")))]}, "NaN or infinity"),
        ({"outputs": [{**output(torch.rand(2, 2)), "data": ["a", "b", "c", "d"]}]}, "no numbers"),
        ({"outputs": [output(torch.rand(2, 7))]}, "7"),
    ],
)
def test_a_changed_schema_is_said(
    server: StandIn, open_target: Any, content: Any, said: str
) -> None:
    """The server changes its mind after it was opened: never a wrong number, always a line."""
    target = open_target(f"{server.url}/v2/models/digits")

    def trouble(number: int, handler: Any) -> bool:
        say(handler, 200, content)
        return True

    server.trouble = trouble
    with pytest.raises(MethodFailed, match=said):
        target(inputs(2))


def test_no_json_is_said(server: StandIn, open_target: Any) -> None:
    """A proxy's page in place of an answer."""
    target = open_target(f"{server.url}/v2/models/digits")

    def trouble(number: int, handler: Any) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "15")
        handler.end_headers()
        handler.wfile.write(b"<html>hi</html>")
        return True

    server.trouble = trouble
    with pytest.raises(MethodFailed, match=r"answers no JSON: '<html>hi</html>'"):
        target(inputs(2))


def test_the_key_goes_to_the_server_and_nowhere_else(
    server: StandIn, open_target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the server echoes it, no error, text, note or hash of a record holds it."""
    secret = "s3cret-" + "k" * 20
    monkeypatch.setenv("MODEL_KEY", secret)
    target = open_target(f"{server.url}/v2/models/digits:key_env=MODEL_KEY")
    assert server.keys == {f"Bearer {secret}"}
    assert secret not in repr(target)

    def trouble(number: int, handler: Any) -> bool:
        say(handler, 400, {"error": f"bad request with {handler.headers['Authorization']}"})
        return True

    server.trouble = trouble
    with pytest.raises(MethodFailed) as raised:
        target(inputs(1))
    assert secret not in str(raised.value)
    assert "***" in str(raised.value)
    monkeypatch.delenv("MODEL_KEY")
    with pytest.raises(BadInput, match="key_env=MODEL_KEY: this environment variable holds no key"):
        open_target(f"{server.url}/v2/models/digits:key_env=MODEL_KEY")


@pytest.mark.parametrize(
    "url", ["http://me:pw@127.0.0.1/invocations", "http://h/v2/models/a?api_key=1/v2/models/b"]
)
def test_a_secret_in_the_address_is_refused_untold(open_target: Any, url: str) -> None:
    """Addresses are written to records."""
    with pytest.raises(BadInput, match="carries a secret") as raised:
        open_target(url)
    assert "pw" not in str(raised.value)
    assert "api_key=1" not in str(raised.value)


def test_a_certificate_of_nobody_is_not_trusted(
    server: StandIn, open_target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Self-signed: refused by default; named by SSL_CERT_FILE, taken."""
    files = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files[0], "-out",
         files[1]], capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    url = f"https://127.0.0.1:{server.port}/v2/models/digits"
    with pytest.raises(BadInput, match="self-signed certificate"):
        open_target(url)
    monkeypatch.setenv("SSL_CERT_FILE", str(files[1]))
    assert open_target(url).says == Access.LOGITS


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("not json", "cannot be read"),
        ('{"uri": "http://h"}', "no request template"),
        ('{"uri": "http://h", "request": {}, "answer": "$.a"}', "must hold either"),
        (
            '{"uri": "http://h", "request": {"a": "$ROW"}, "answer": "a.b"}',
            "no path into an answer",
        ),
        ('{"uri": "http://h", "request": {"a": "$ROW"}, "answer": "$.b", "urk": 1}', "urk"),
        (
            '{"uri": "http://h", "request": {"a": "$ROW"}, "answer": "$.b", '
            '"headers": {"Authorization": "x"}}',
            "environment variable",
        ),
    ],
)
def test_a_template_that_is_none_is_one_line(
    tmp_path: Path, open_target: Any, held: str, said: str
) -> None:
    """Each lack is named."""
    (tmp_path / "bad.json").write_text(held)
    with pytest.raises(UsageError, match=said):
        open_target(str(tmp_path / "bad.json"))
