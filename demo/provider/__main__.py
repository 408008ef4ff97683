"""`python -m demo.provider --port N [--host 127.0.0.1]`: serves until SIGTERM or SIGINT, then 0.

Prints one line with its address once it listens; port 0 takes a free one.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from demo.provider.server import Provider


async def serve(host: str, port: int) -> None:
    """Serves until the process is told to stop. Raises OSError if the port is taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        Provider().app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        print(f"The scripted provider listens on http://{shown}:{bound}/v1", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: slower, but the same
        return asyncio.run
    return uvloop.run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo.provider", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    try:
        _runner()(serve(options.host, options.port))
    except OSError as error:
        print(f"demo.provider: cannot listen on port {options.port}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
