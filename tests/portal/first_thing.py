"""`python -m tests.portal.first_thing FOLDER`: opens pages, each in a process that is new.

Reads a line of JSON with `path` and `cookie` and writes one that tells what was shown. What is slow
about a start is imported once; the rest a fork does anew: services, Streamlit's pages, all state.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from portal import wiring
from portal.wiring import ROOT
from tests.portal.conftest import browser_request, settings_for


def shown(folder: Path, job: dict[str, str]) -> dict[str, list[Any]]:
    services = wiring.make_services(settings_for(folder))
    wiring.use(services)
    cookies = {"papita_session": job["cookie"]} if job["cookie"] else {}
    with browser_request(**cookies):
        app = AppTest.from_file(str(ROOT / "Home.py"), default_timeout=60)
        if job["path"]:
            # What `switch_page` does, which knows an address that is not its file's name only after
            # a first run.
            app._page_hash = calc_hash(job["path"])
        app.run()
    found = {
        "exceptions": [one.value for one in app.exception],
        "titles": [one.value for one in app.title],
        "subheaders": [one.value for one in app.subheader],
        "errors": [one.value for one in app.error],
        "buttons": [one.label for one in app.button],
        "pages": [one.proto.label for one in app.main.get("page_link")],
    }
    services.close()
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                sys.stdout.write(json.dumps(shown(folder, json.loads(line))) + "\n")
                sys.stdout.flush()
                code = 0
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            sys.exit(1)


if __name__ == "__main__":
    main()
