"""What keeps a child process from outliving QGIS? It runs a module, and ends with all that started when its stdin ends.

Started by another Python than QGIS's: ``python child.py pip install ...``.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from contextlib import suppress


def lead() -> None:
    """Make this process the leader of a group, which then can be ended as a whole."""
    with suppress(AttributeError, OSError):
        os.setsid()


def end_with_parent() -> None:
    """Wait until nobody can write to stdin any more, and end the group."""
    while os.read(0, 1024):
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(130)


if __name__ == "__main__":
    lead()
    threading.Thread(target=end_with_parent, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
