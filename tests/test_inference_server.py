"""``dltrain serve``: what the server of a run answers, and what it refuses."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltrain.cli import dispatch
from dltrain.data.tables.media_reader import MediaReader
from dltrain.data.tables.reader import TableReader
from dltrain.errors import UserError
from dltrain.inference.predictor import Predictor
from dltrain.runs.folder import RunFolder
from tests.conftest import Train

pytest.importorskip("fastapi", reason="dltrain serve is an extra")
pytest.importorskip("httpx", reason="the test client is an extra")

from fastapi.testclient import TestClient

from dltrain.inference.server import application


def png(value: int = 200) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((9, 7), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def predictor(train: Train) -> Predictor:
    done = train("model=logreg", "data=digits", "trainer.steps=1")
    return Predictor(RunFolder(done.folder))


def client(predictor: Predictor) -> TestClient:
    return TestClient(application(predictor, ["testserver"], megabytes=0.01))


def test_an_image_comes_as_it_is_or_in_base64(predictor: Predictor) -> None:
    with client(predictor) as ask:
        alone = ask.post("/predict", content=png(), headers={"Content-Type": "image/png"}).json()
        texts = [base64.b64encode(png()).decode(), base64.b64encode(png(3)).decode()]
        both = ask.post("/predict", json={"examples": texts, "top": 2}).json()
        right = predictor.predict([png(), png(3)], top=2)
        assert both == {"predictions": list(right)}
        assert alone["predictions"][0]["class"] == right[0]["class"]
        about = ask.get("/about").json()
        assert (about["example"], about["classes"]) == ("image", [str(n) for n in range(10)])
        page = ask.get("/")
        assert "drop" in page.text
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"json": {"examples": ["/etc/hostname"]}}, 422, "no image in base64"),
        ({"json": {"examples": [base64.b64encode(b"text").decode()]}}, 422, "this is no image"),
        ({"json": {"examples": []}}, 422, "examples are 1 to 256, got 0"),
        ({"json": {"examples": ["a"] * 257}}, 422, "got 257"),
        ({"json": ["a"]}, 422, "send {"),
        ({"json": {"examples": ["YQ=="], "top": 0}}, 422, "top is a whole number"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ({"content": b"[" * 9000, "headers": {"Content-Type": "application/json"}}, 400, "no JSON"),
        ({"data": {"examples": "a"}}, 415, "application/json"),
        ({"content": bytes(10_001), "headers": {"Content-Type": "image/png"}}, 413, "0.01 MB"),
    ],
)
def test_a_bad_request_is_one_line_and_reads_no_file(
    sent: dict[str, Any], status: int, said: str, predictor: Predictor
) -> None:
    with client(predictor) as ask:
        reply = ask.post("/predict", **sent)
    assert reply.status_code == status
    assert said in reply.json()["error"]


def test_another_name_of_this_machine_is_refused(predictor: Predictor) -> None:
    with client(predictor) as ask:
        assert ask.get("/about", headers={"Host": "a-strangers-page"}).status_code == 400


def test_a_row_is_an_object_and_never_a_path(predictor: Predictor) -> None:
    vars(predictor)["reader"] = TableReader(["a", "b"])
    with client(predictor) as ask:
        assert ask.get("/about").json()["columns"] == ["a", "b"]
        refused = ask.post("/predict", json={"examples": ["rows.csv"]})
        assert refused.json()["error"] == "example 0 is no row: 'rows.csv'"
        wrong = ask.post("/predict", json={"examples": [{"a": "x", "b": "1"}]})
        assert "this, column 'a': 'x' is not a (finite) number" in wrong.json()["error"]


def test_an_image_in_a_row_is_its_content_and_never_a_path(predictor: Predictor) -> None:
    images = {"b": {"channels": 1, "height": 9, "width": 7, "mean": [0.0], "std": [1.0]}}
    reader = MediaReader(["a"], images, [], tokenizers=[])
    vars(predictor)["reader"] = reader
    read: list[Any] = []
    reader.read = lambda examples: read.extend(examples) or {}  # type: ignore[method-assign]
    with client(predictor) as ask:
        for row in ({"a": 1, "b": "/etc/hostname"}, [1, "/etc/hostname"]):
            refused = ask.post("/predict", json={"examples": [row]})
            assert refused.json()["error"] == "example 0: 'b' is no file in base64"
        assert not read
        content = base64.b64encode(png()).decode()
        ask.post("/predict", json={"examples": [[1, content], {"a": 1, "b": content}]})
    assert read[:2] == [{"a": 1, "b": png()}] * 2


def test_a_port_that_is_taken_is_one_line(predictor: Predictor) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(UserError, match=f":{port} cannot be listened on: .* --port 0 takes"):
            dispatch(["serve", str(predictor.path), "--port", port])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--port", "99999"], "--port is from 0 to 65535, got 99999"),
        (["--port", "-1"], "--port is from 0 to 65535, got -1"),
        (["--limit", "nan"], "--limit is above 0 MB, got nan"),
        (["--limit", "inf"], "--limit is above 0 MB, got inf"),
    ],
)
def test_a_port_or_limit_that_is_none_is_refused(option: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        dispatch(["serve", "latest", *option])
