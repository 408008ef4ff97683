"""Runs AL-Chat: `python -m alchat_core`. SIGTERM and SIGINT end it with 0, bad settings with 2."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Iterator

import uvicorn

from alchat_core.settings import Settings, SettingsError, load


class Server(uvicorn.Server):
    """Ends running answers first, so that their followers are told and leave by themselves.

    Requests are answered meanwhile; those that would start an answer are refused.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self._settings = settings
        self._ending: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn raises the signal again after a clean stop, which would be no exit code 0.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        yield

    def _stop(self) -> None:
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        services = getattr(self.config.app.state, "services", None)  # type: ignore[union-attr]
        try:
            if services is not None:
                await services.runs.stop(self._settings.alchat_stop_timeout)
        finally:
            self.should_exit = True


def main() -> int:
    try:
        settings = load()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2

    from alchat_core import logs, telemetry
    from alchat_core.api.app import VERSION, create_app
    from alchat_core.db.migrate import migrate

    logs.configure(settings.alchat_log_level, settings.alchat_log_format)
    log = logging.getLogger("alchat_core")
    try:
        migrate(settings.database)
    except Exception as error:  # noqa: BLE001 - one line for whatever the driver raises
        print(f"The database cannot be used: {logs.describe(error)}", file=sys.stderr)
        return 1
    try:
        telemetry.start(VERSION)
    except telemetry.TelemetryError as error:
        # Its variables are not ours alone, so they are no reason not to start.
        log.warning("no traces: %s", error)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.alchat_host,
        port=settings.alchat_port,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.alchat_stop_timeout)),
        lifespan="on",
    )
    server = Server(config, settings)
    gc.collect()
    gc.freeze()
    # Answers make much short-lived garbage and hardly any cycles: look for those less often.
    gc.set_threshold(20_000, 20, 50)
    log.info("AL-Chat listens on http://%s:%d", settings.alchat_host, settings.alchat_port)
    try:
        server.run()
    except SystemExit as error:
        return 1 if error.code else 0
    finally:
        telemetry.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
