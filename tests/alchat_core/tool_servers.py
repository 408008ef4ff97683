"""Tool servers for the tests: two real ones from PyPI as a process, and one that misbehaves.

.venv/servers/bin/python tests/alchat_core/tool_servers.py TIME_PORT GIT_PORT REPOSITORY
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

VERSION = "2025-06-18"
TOKEN = "mcp-canary-token-9b1e77c4"
ARGUMENTS = {"type": "object", "properties": {"text": {"type": "string"}}}


class OddServer:
    """An MCP server with tools that misbehave, in a thread. The path chooses more of it:

    `/token/mcp` wants `TOKEN`, `/away/mcp` redirects, `/broken/mcp` answers 500, `/page/mcp` with a
    web page, `/hang/mcp` not at all, `/flood/mcp` lists its tools without an end. `calls` counts
    calls by tool, `keys` the Authorization headers, `arrived` is set when a call hangs.
    """

    def __init__(self) -> None:
        odd = self

        class Handler(_Handler):
            owner = odd

        self.calls: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.description = "Says what it was given."
        self.arrived = threading.Event()
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, how: str = "") -> str:
        return f"{self.origin}{how}/mcp"

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: OddServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(405, b"")

    def do_DELETE(self) -> None:
        self._answer(200, b"")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        how = self.path.removesuffix("/mcp")
        key = self.headers.get("Authorization", "")
        self.owner.keys[key] += 1
        if how == "/away":
            self._answer(307, b"", Location="/mcp")
        elif how == "/broken":
            self._answer(500, b"no secret of ours")
        elif how == "/page":
            self._answer(200, b"<h1>hello</h1>", "text/html")
        elif how == "/hang":
            self.owner.over.wait(20)
        elif how == "/token" and key != f"Bearer {TOKEN}":
            self._answer(401, b"")
        else:
            self._speak(json.loads(raw), how)

    def _speak(self, message: dict[str, Any], how: str) -> None:
        method, params = message["method"], message.get("params") or {}
        if "id" not in message:
            self._answer(202, b"")
        elif method == "initialize":
            server = {"name": "odd", "version": "1"}
            capabilities = {"tools": {}}
            found = {"protocolVersion": VERSION, "capabilities": capabilities, "serverInfo": server}
            self._result(message, found)
        elif method == "tools/list":
            self._tools(message, how)
        elif method == "tools/call":
            self._call(message, params["name"], params.get("arguments") or {})
        else:
            self._error(message, -32601, "no such method")

    def _tools(self, message: dict[str, Any], how: str) -> None:
        names = ("say", "say/again", "hang", "huge", "long", "fail", "refuse", "break")
        tools = [
            {"name": name, "description": self.owner.description, "inputSchema": ARGUMENTS}
            for name in names
        ]
        found: dict[str, Any] = {"tools": tools}
        if how == "/flood":
            for tool in tools:
                tool["name"] += str(time.monotonic_ns())
            found["nextCursor"] = "more"
        self._result(message, found)

    def _call(self, message: dict[str, Any], name: str, arguments: dict[str, Any]) -> None:
        self.owner.calls[name] += 1
        if name == "hang":
            self.owner.arrived.set()
            self.owner.over.wait(20)
        elif name == "refuse":
            self._error(message, -32602, "the text is not to my taste")
        elif name == "break":
            self._answer(500, b"no secret of ours")
        else:
            text = {"huge": "x" * 300_000, "long": "é" * 3_000}.get(name, arguments.get("text", ""))
            content = [{"type": "text", "text": text}]
            self._result(message, {"content": content, "isError": name == "fail"})

    def _result(self, message: dict[str, Any], result: dict[str, Any]) -> None:
        self._json({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def _error(self, message: dict[str, Any], code: int, text: str) -> None:
        error = {"code": code, "message": text}
        self._json({"jsonrpc": "2.0", "id": message["id"], "error": error})

    def _json(self, body: dict[str, Any]) -> None:
        self._answer(200, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, raw: bytes, kind: str = "text/plain", **headers: str) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)


async def _serve(time_port: int, git_port: int, repository: Path) -> None:
    from mcp_server_git.server import create_server as git
    from mcp_server_time.server import create_server as clock

    await asyncio.gather(
        clock("Europe/Berlin").run_streamable_http_async(port=time_port),
        git(repository).run_streamable_http_async(port=git_port),
    )


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
