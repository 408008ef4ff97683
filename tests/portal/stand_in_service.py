"""A service to launch: answers on /readyz once a delay has passed, or dies at once.

python stand_in_service.py PORT [--after SECONDS] [--die MESSAGE] [--ignore-term]
                           [--linger SECONDS]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--after", type=float, default=0.0)
parser.add_argument("--die")
parser.add_argument("--ignore-term", action="store_true")
parser.add_argument("--linger", type=float, default=0.0, help="to be there after the port closed")
options = parser.parse_args()

if options.die:
    print(options.die, flush=True)
    sys.exit(3)
if options.ignore_term:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
started = time.monotonic()
print("environment:", json.dumps(sorted(os.environ)), flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = time.monotonic() - started >= options.after
        body = b"{}" if ready else b'{"code": "not-ready", "detail": "Still warming up."}'
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


with ThreadingHTTPServer(("127.0.0.1", options.port), Handler) as server:
    try:
        server.serve_forever()
    finally:
        server.server_close()
        time.sleep(options.linger)
