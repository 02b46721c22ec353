"""A module that tells everybody what it was told about the call, by every way a module has: log, standard error, its last words."""

import json
import os
import struct
import sys

stdin, stdout = os.fdopen(0, "rb", 0), os.fdopen(1, "wb", 0)


def say(type, slot=1, **fields):
    body = json.dumps({"type": type, **fields}).encode()
    stdout.write(struct.pack("<IBBH", len(body), 0, 0, slot) + body)


def read(count):
    octets = b""
    while len(octets) < count:
        piece = stdin.read(count - len(octets))
        if not piece:
            sys.exit(0)
        octets += piece
    return octets


def start(message):
    caller = message["call"]["from"]
    say("ready", accept={"in": {"encoding": "pcm_s16le", "rate": 8000}, "tracks": [0], "framing": "raw"})
    for level in ("debug", "info", "warn", "error"):
        say("log", level=level, msg=f"{caller} calls")
    print(f"on standard error: {caller} calls", file=sys.stderr, flush=True)
    say("event", name="caller", data={"number": caller})
    say("transcript", id=5, text=f"my number is {caller}")
    if message.get("resume") is None:
        print(f"gone while {caller} was calling", file=sys.stderr, flush=True)
        os._exit(3)
    say("event", name="told", data={"names": sorted(message["call"]["meta"])})


say("register", slot=0, module="teller", v=[1])
while True:
    length, kind, _, slot = struct.unpack("<IBBH", read(8))
    body = read(length)
    if kind == 1:
        continue
    message = json.loads(body)
    if message["type"] == "ping":
        say("pong", slot=slot, t=message["t"])
    elif message["type"] == "start":
        start(message)
    elif message["type"] == "stop":
        say("done")
