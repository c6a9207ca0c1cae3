"""Faults inside the processes of a job under test, by environment variables.

Python imports a module of this name at start-up. CHAOS_POISON=1 makes `PIL.Image.open` obey the
markers of tests/chaos/poison.py; CHAOS_HOST=<name> resolves that name to 127.0.0.1, until the file
CHAOS_NO_DNS exists; CHAOS_KILL=<driver or worker>:<n>:<folder>:<file> kills the first such process
that comes to its n-th operation on the folder, and leaves the file as a sign that it has.
"""

import os
import sys


def _rig_pillow():
    import ctypes
    import time

    import PIL.Image

    real_open = PIL.Image.open

    def rigged_open(source, *args, **kwargs):
        tail = source.getvalue()[-40:] if hasattr(source, "getvalue") else b""
        _, found, kind = tail.rpartition(b"\x00clusterlib chaos: ")
        if found and kind == b"segfault":
            ctypes.string_at(0)
        if found and kind == b"hang":
            while True:
                time.sleep(3600)
        if found and kind == b"memory":
            return [bytearray(8 * 2**30)]
        return real_open(source, *args, **kwargs)

    PIL.Image.open = rigged_open


def _rig_names():
    import socket

    real = socket.getaddrinfo

    def rigged(host, *args, **kwargs):
        if host == os.environ["CHAOS_HOST"]:
            if os.path.exists(os.environ["CHAOS_NO_DNS"]):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return real(host, *args, **kwargs)

    socket.getaddrinfo = rigged


def _rig_death():
    import signal

    role, number, folder, sign = os.environ["CHAOS_KILL"].split(":")
    is_driver = any(arg.startswith("jobs.") for arg in sys.orig_argv)
    is_worker = any(arg.endswith("default_worker.py") for arg in sys.orig_argv)
    if not (is_driver if role == "driver" else is_worker):
        return
    seen = 0

    def hook(event, args):
        nonlocal seen
        if event in ("open", "os.rename", "os.link", "os.remove", "os.scandir") and str(
            args[1 if event == "os.link" else 0]
        ).startswith(folder):
            seen += 1
            if seen == int(number) and not os.path.exists(sign):
                open(sign, "w").close()
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


# Only the decoder opens pictures from outside; other processes need not wait for Pillow.
if os.environ.get("CHAOS_POISON") and "clusterlib.images.decoder_process" in sys.orig_argv:
    _rig_pillow()
if os.environ.get("CHAOS_HOST"):
    _rig_names()
if os.environ.get("CHAOS_KILL"):
    _rig_death()
