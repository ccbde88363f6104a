"""Requests to MLflow's app, as its pages and its client send them."""

import asyncio
import json

MODEL = "layered-signals"
API, PAGES = "/api/2.0/mlflow", "/ajax-api/2.0/mlflow"


def send(server, method, path, status=200, base=PAGES, /, **fields):
    answer = server.open(f"{base}/{path}", method=method, json=fields)
    assert answer.status_code == status, answer.text
    return answer.get_json()


def refused(server, method, path, words, base=PAGES, /, **fields):
    told = send(server, method, path, 403, base, **fields)
    assert told["error_code"] == "PERMISSION_DENIED"
    assert words in told["message"]
    return told["message"]


def call(app, method, path, body=b"x", **headers):
    """One request to an ASGI app; its status and body."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def answer(message):
        sent.append(message)

    given = {"host": "localhost", **headers}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()],
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "server": ("localhost", 80),
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(app(scope, receive, answer))
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:])


def access(world):
    path = world.root / "mlruns/access.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
