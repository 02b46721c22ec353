"""Which transport a module file runs on: its one last line serves them all. Carries nothing itself."""

import sys
from typing import NoReturn, Type

from . import _nats_worker, _server, _stdio, _worker
from ._module import Module


def run(module_class: Type[Module]) -> NoReturn:
    """Serves the bridge that started this process until it closes standard input or sends SIGTERM, then exits.

    With `--serve HOST:PORT` on the command line, serves bridges that dial it instead, see `serve`; with `--connect URL`, dials a
    bridge and waits there for calls, see `connect`; with `--nats URL --group NAME` it is a worker on NATS, see `nats`. `--help`
    beside any of them tells more.

    Exit codes: 0 all done, 64 started by hand, 65 standard input is no bridge, 70 the module could not be loaded.
    Call it from the main thread, last in your script.
    """
    if not _stdio.is_child() and _server.is_asked_for(sys.argv[1:]):
        _server.run_served(module_class, sys.argv[1:])
    if not _stdio.is_child() and _nats_worker.is_asked_for(sys.argv[1:]):
        _nats_worker.run_on_nats(module_class, sys.argv[1:])
    if not _stdio.is_child() and _worker.is_asked_for(sys.argv[1:]):
        _worker.run_connected(module_class, sys.argv[1:])
    _stdio.run(module_class)
