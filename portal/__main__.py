"""`python -m portal`: starts the portal and stops, with it, everything that it started."""

from __future__ import annotations

import errno
import logging.config
import signal
import socket
import sys
from typing import Any

from papita_core.settings import SettingsError
from portal.settings import PortalSettings
from portal.terminal import take_from_make

DONE, FAILED, BAD_SETTINGS = 0, 1, 2


def main() -> int:
    """The exit code: 0 stopped as asked, 1 could not start, 2 settings that cannot be used."""
    try:
        settings = PortalSettings.load()
    except SettingsError as error:
        return _refuse(str(error), BAD_SETTINGS)
    _configure_logging(settings.log_level)
    try:
        listener = _listen(settings)
    except OSError as error:
        return _refuse(_listen_problem(error, settings), FAILED)
    # Either signal unwinds the stack, before the server runs as well as after it has shut down:
    # uvicorn raises again what it caught.
    take_from_make()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _unwind)
    try:
        return _serve(settings, listener)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED


def _serve(settings: PortalSettings, listener: socket.socket) -> int:
    # After the port is ours, since this migrates databases and takes a second to import.
    import uvicorn

    from papita_core.errors import PapitaError
    from portal import wiring
    from portal.page_sessions import Websocket
    from portal.server import create_app

    try:
        services = wiring.make_services(settings)
    except SettingsError as error:
        return _refuse(str(error), BAD_SETTINGS)
    except PapitaError as error:
        return _refuse(str(error), FAILED)
    wiring.use(services)

    def on_ready() -> None:
        _announce(services)
        services.start()

    try:
        config = uvicorn.Config(
            create_app(services, on_ready=on_ready),
            log_config=None,
            access_log=False,
            ws=Websocket,
            ws_ping_interval=5,
            ws_ping_timeout=5,
            timeout_graceful_shutdown=2,
            server_header=False,
            proxy_headers=False,  # create_app sees to them, and believes configured proxies alone
        )
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        services.close()
    return DONE


def _announce(services: Any) -> None:
    settings = services.settings
    print(f"Papita is at {settings.origin}", flush=True)
    if services.papita.setup.pending():
        code = services.papita.setup.issue_code()
        print(
            "\nThere is no user yet. Create the first administrator within the hour:\n"
            f"  {settings.origin}/?setup={code}\n"
            f"or open the portal and enter the set-up code {code}\n",
            flush=True,
        )


def _listen(settings: PortalSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        # Also claims the port against a process that bound it, but does not listen yet.
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    listener.set_inheritable(False)
    return listener


def _listen_problem(error: OSError, settings: PortalSettings) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"PAPITA_PORT: port {settings.port} on {settings.host} is in use."
            " Stop what listens there, or set PAPITA_PORT to another one."
        )
    return f"PAPITA_HOST: cannot listen on {settings.host}:{settings.port}: {error.strerror}"


def _refuse(sentence: str, code: int) -> int:
    print(f"papita: {sentence}", file=sys.stderr)
    return code


def _unwind(_number: int, _frame: object) -> None:
    raise SystemExit(DONE)


def _configure_logging(level: str) -> None:
    # Our own, so that no library writes a request line, which holds query strings.
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
            "loggers": {
                "uvicorn": {"level": "WARNING"},
                "alembic": {"level": "WARNING"},
                "uvicorn.access": {"level": "CRITICAL", "propagate": False},
                "httpx": {"level": "WARNING"},
                "httpcore": {"level": "WARNING"},
                "urllib3": {"level": "WARNING"},
            },
        }
    )


if __name__ == "__main__":
    sys.exit(main())
