"""A module that tells which sound it heard, in nothing but the standard library. It knows what the caller says and when.

With a port of this machine as its argument it is ready only once somebody has sent an octet there.
"""

import json
import os
import socket
import struct
import sys

gate = int(sys.argv[1]) if len(sys.argv) > 1 else None
stdin, stdout = os.fdopen(0, "rb", 0), os.fdopen(1, "wb", 0)
REPORT = 1600
first = last = wrong = None


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


def known(n):
    return n * 7919 % 30011 - 15006 or 1


def report():
    global first
    if first is not None:
        say("event", name="heard", data={"pid": os.getpid(), "from": first, "to": last, "wrong": wrong})
        say("ack", in_ms=last * 1000 // 8000)
    first = None


def hear(body):
    global first, last, wrong
    at = struct.unpack("<Q", body[8:16])[0]
    samples = struct.unpack(f"<{len(body) // 2 - 8}h", body[16:])
    if first is not None and at != last:
        report()
    if first is None:
        first, last, wrong = at, at, 0
    wrong += sum(sample != known(at + i) for i, sample in enumerate(samples))
    last = at + len(samples)
    if last - first >= REPORT:
        report()


def start(message):
    if gate is not None:
        with socket.create_connection(("127.0.0.1", gate)) as line:
            line.recv(1)
    pcm = {"encoding": "pcm_s16le", "rate": 8000}
    say("ready", accept={"in": pcm, "tracks": [0], "framing": "hdr16"})
    say("event", name="started", data={"pid": os.getpid(), "resume": message.get("resume")})


say("register", slot=0, module="ears", v=[1])
while True:
    length, kind, _, slot = struct.unpack("<IBBH", read(8))
    body = read(length)
    if kind == 1:
        hear(body)
        continue
    message = json.loads(body)
    if message["type"] == "ping":
        say("pong", slot=slot, t=message["t"])
    elif message["type"] == "start":
        start(message)
    elif message["type"] == "gap":
        say("event", name="gap", data=message)
    elif message["type"] == "stop":
        report()
        say("done")
