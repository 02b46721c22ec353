"""A module for the tests of the process host, in nothing but the standard library. The first argument says how to misbehave.

The configuration of a session may say so for it alone; the second argument is how many sessions it registers for, the third what the
process itself needs for how it misbehaves.
"""

import json
import os
import resource
import socket
import struct
import sys
import time

usual = sys.argv[1]
sessions = int(sys.argv[2]) if len(sys.argv) > 2 and usual != "stay" else 1
modes = {}
current = 1
stdin, stdout = os.fdopen(0, "rb", 0), os.fdopen(1, "wb", 0)


def abandoned():
    if usual == "stay":
        time.sleep(600)
    while usual == "clinging":
        say("pong", slot=0, t=0)
        time.sleep(0.1)
    sys.exit(0)


def send(kind, body, slot=None):
    slot = current if slot is None else slot
    try:
        stdout.write(struct.pack("<IBBH", len(body), kind, 0, slot) + body)
    except BrokenPipeError:
        time.sleep(600 if usual == "stay" else 0)
        sys.exit(0)


def say(type, slot=None, **fields):
    send(0, json.dumps({"type": type, **fields}).encode(), slot)


def event(name, data):
    say("event", name=name, data=data)


def read(count):
    octets = b""
    while len(octets) < count:
        piece = stdin.read(count - len(octets))
        if not piece:
            abandoned()
        octets += piece
    return octets


def start(message):
    config = message.get("config")
    mode = modes[current] = config.get("mode", usual) if isinstance(config, dict) else usual
    if mode == "reject":
        return say("reject", code="bad_config", message="as told")
    if mode == "late":
        time.sleep(600)
    if mode == "mute":
        send(1, bytes(4))
    if mode == "nonsense":
        say("transcript", id=5, text=None)
    framing = "hdr16" if mode == "hdr16" else "raw"
    pcm = {"encoding": "pcm_s16le", "rate": 8000}
    accept = {"in": pcm, "out": pcm, "tracks": [0], "framing": framing}
    say("ready", accept=accept)
    event("started", {"resume": message.get("resume"), "session": message["session"]})
    if mode == "twice":
        say("ready", accept=accept)
    if mode == "group":
        event("group", [os.getpid(), os.getpgrp()])
    if mode == "whoami":
        event("pid", [os.getpid(), current])
    if mode == "surroundings":
        limits = [resource.getrlimit(what)[0] for what in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
        event("surroundings", [sorted(os.environ), os.environ.get("GIVEN"), os.getcwd(), *limits, os.nice(0)])
    if mode == "greedy":
        bytearray(1 << 30)
    if mode == "hang":
        time.sleep(600)
    if mode == "flood":
        while True:
            send(1, bytes(16000))
    if mode == "babble":
        for n in range(1200):
            event("babble", n)
    if mode == "gush":
        for _ in range(80):
            event("gush", "x" * 200_000)
    if mode == "garbage":
        print("hello, this is not a frame", flush=True)
    if mode == "oversize":
        stdout.write(struct.pack("<IBBH", 262145, 1, 0, current))
    if mode == "slot":
        say("pong", slot=7, t=1)
    if mode == "nobody":
        send(1, bytes(2), slot=0)
    if mode == "astray":
        say("event", slot=0, name="astray", data=None)
    if mode == "muddled":
        say("register", slot=0, module=5)
    if mode == "odd":
        send(1, bytes(3))
    if mode == "fatal":
        say("error", code="vendor", message="no key", fatal=True)
    if mode == "unclear":
        say("transcript", id=5, text=None)
        say("later", x=1)
    if mode == "files":
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        event("files", [os.readlink(link) for link in links if os.path.exists(link)])
    if mode == "stay":
        global line
        line = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        line.sendall(b"here")


def heard(body):
    if modes[current] == "crash":
        print("boom", file=sys.stderr, flush=True)
        os._exit(3)
    send(1, body)


if usual == "unborn" and not os.path.exists(sys.argv[3]):
    open(sys.argv[3], "w").close()
    print("no model", file=sys.stderr, flush=True)
    sys.exit(5)
if usual in ("unloaded", "clinging", "mum", "shut"):
    # Open as long as the process is there.
    line = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
    line.recv(1)
say("register", slot=0, module="test", v=[9] if usual == "version" else [1], max_sessions=sessions)
if usual == "shut":
    stdout.close()
if usual in ("mum", "shut"):
    time.sleep(600)
while True:
    length, kind, _, slot = struct.unpack("<IBBH", read(8))
    body = read(length)
    current = 1 if usual == "mixed" else slot
    if kind == 1:
        heard(body)
        continue
    message = json.loads(body)
    if message["type"] == "ping":
        say("pong", slot=slot, t=message["t"])
    elif message["type"] == "start":
        start(message)
    elif message["type"] == "stop":
        mode = modes[current]
        if mode == "deaf":
            continue
        if mode == "leave":
            sys.exit(4)
        event("stopping", message["reason"])
        say("done", stats={"n": 1})
    else:
        event("told", message)
