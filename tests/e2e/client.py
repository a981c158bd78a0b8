"""A small client of tenond's REST API for the tests: requests for plain calls, raw sockets where framing matters,
an SSE reader that knows positions, and websocket-client for attach."""

import base64
import json
import os
import socket
import struct
import time
from urllib.parse import urlsplit

import requests
import websocket

TIMEOUT = 120  # of a call that may boot a box


class Client:
    def __init__(self, url, headers=None):
        self.url = url.rstrip("/") + "/v1"
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers.update(headers or {})

    def call(self, method, path, **kw):
        kw.setdefault("timeout", TIMEOUT)
        return self.http.request(method, self.url + path, **kw)

    def get(self, path, **kw):
        return self.call("GET", path, **kw)

    def post(self, path, **kw):
        return self.call("POST", path, **kw)

    def delete(self, path, **kw):
        return self.call("DELETE", path, **kw)

    # ---- boxes and executions ----

    def create(self, **body):
        r = self.post("/boxes", json=body)
        assert r.status_code == 201, r.text
        return r.json()

    def remove(self, box):
        return self.delete(f"/boxes/{box}?force=true")

    def exec(self, box, command, *args, **more):
        r = self.post(f"/boxes/{box}/exec", json={"command": command, "args": list(args), **more})
        assert r.status_code == 201, r.text
        return Execution(self, box, r.json()["execution_id"])

    def run(self, box, command, *args, **more):
        """Runs to the end: (stdout, stderr, exit event)."""
        more.setdefault("stdin", "")
        return self.exec(box, command, *args, **more).collect()

    # ---- below HTTP ----

    def raw(self, data, timeout=10):
        """Sends bytes as they are and returns all that comes back until the server closes or the timeout passes."""
        with self.connect(timeout) as s:
            try:
                s.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return receive_all(s)

    def connect(self, timeout=10):
        at = urlsplit(self.url)
        return socket.create_connection((at.hostname, at.port), timeout=timeout)


def receive_all(s):
    got = b""
    try:
        while piece := s.recv(65536):
            got += piece
    except (TimeoutError, socket.timeout, ConnectionResetError):
        pass
    return got


class Event:
    def __init__(self, name, position, data):
        self.name, self.position, self.data = name, position, data
        self.bytes = base64.b64decode(data["data"]) if "data" in data else b""


class Execution:
    def __init__(self, client, box, id):
        self.client, self.box, self.id = client, box, id
        self.path = f"/boxes/{box}/executions/{id}"

    def info(self):
        r = self.client.get(self.path)
        assert r.status_code == 200, r.text
        return r.json()

    def signal(self, number):
        return self.client.post(self.path + "/signal", json={"signal": number})

    def kill(self):
        return self.client.delete(self.path)

    def kill_and_wait(self):
        """DELETE; then until it is gone, which is when it has ended and its readers have left."""
        assert self.kill().status_code == 204
        for _ in range(200):
            r = self.client.get(self.path)
            if r.status_code == 410:
                return r
            time.sleep(0.05)
        raise AssertionError(f"still there: {r.text}")

    def write(self, data, close=False):
        headers = {"X-Close-Stdin": "true"} if close else {}
        return self.client.post(self.path + "/input", data=data, headers=headers)

    def events(self, last=None, query="", timeout=TIMEOUT):
        """The SSE stream from after event id `last`, to its end or the connection's."""
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        with self.client.get(self.path + "/output" + query, headers=headers, stream=True, timeout=timeout) as r:
            assert r.status_code == 200, r.text
            assert r.headers["Content-Type"] == "text/event-stream"
            fields, rest = {}, b""
            for piece in r.iter_content(None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if line:
                        key, _, value = line.decode().partition(": ")
                        fields[key] = value
                    elif "event" in fields:
                        yield Event(fields["event"], int(fields["id"]), json.loads(fields["data"]))
                        fields = {}

    def collect(self, last=None, query=""):
        out, err, end = b"", b"", None
        for e in self.events(last, query):
            if e.name == "stdout":
                out += e.bytes
            elif e.name == "stderr":
                err += e.bytes
            elif e.name == "exit":
                end = e.data
        return out, err, end

    def attach(self, query="", timeout=TIMEOUT, **kw):
        url = "ws" + self.client.url[4:] + self.path + "/attach" + query
        headers = {k: v for k, v in self.client.http.headers.items() if k == "Authorization"}
        ws = websocket.create_connection(url, timeout=timeout, header=headers, http_no_proxy=["*"], **kw)
        return Attached(ws)


class Attached:
    """An attached WebSocket. Frames that arrive while something else is awaited are kept."""

    def __init__(self, ws):
        self.ws = ws
        self.pings = []
        self.answer_pings = True

    def next(self):
        """(kind, payload): "out", "err", "text" (decoded JSON) or "close" (code)."""
        while True:
            opcode, data = self.ws.recv_data_frame(True)
            payload = data.data if hasattr(data, "data") else data
            if opcode == websocket.ABNF.OPCODE_PING:
                self.pings.append(struct.unpack("<Q", payload)[0])
                continue
            if opcode == websocket.ABNF.OPCODE_BINARY:
                return {1: "out", 2: "err"}[payload[0]], payload[1:]
            if opcode == websocket.ABNF.OPCODE_TEXT:
                return "text", json.loads(payload)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return "close", struct.unpack(">H", payload[:2])[0] if payload else None

    def collect(self):
        """To the close: (stdout, stderr, texts, close code)."""
        out, err, texts = b"", b"", []
        while True:
            kind, value = self.next()
            if kind == "out":
                out += value
            elif kind == "err":
                err += value
            elif kind == "text":
                texts.append(value)
            else:
                return out, err, texts, value

    def send(self, data):
        self.ws.send_binary(data)

    def control(self, **message):
        self.ws.send(json.dumps(message))

    def drop(self):
        """Without a close frame, as a lost network does."""
        self.ws.sock.close()


def error_of(r):
    """The typed error of a reply, its shape checked."""
    body = r.json()
    e = body["error"]
    assert isinstance(e["message"], str) and e["message"]
    assert isinstance(e["type"], str) and isinstance(e["code"], str)
    assert e["request_id"] == r.headers["X-Request-Id"]
    return e
