"""Takes the terminal from `make`, so that Ctrl-C ends the portal and not `make` as well.

GNU make, once interrupted, waits for what it runs and then always ends by that same signal: a
portal that stopped in good order would look like a failure. As the terminal's foreground group the
portal alone gets the signal, and make passes its exit code on.
"""

from __future__ import annotations

import os
import signal
import sys


def take_from_make() -> None:
    """Does nothing unless make runs us in the foreground of a terminal."""
    if "MAKELEVEL" not in os.environ or not sys.stdin.isatty():
        return
    terminal = sys.stdin.fileno()
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp() or os.getpgrp() == os.getpid():
            return
        os.setpgid(0, 0)
        # Without this the kernel stops a background process that reaches for the terminal.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(terminal, os.getpgrp())
        # Ctrl-Z would stop us while the shell goes on waiting for make.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    except OSError:
        return
