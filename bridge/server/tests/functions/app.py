"""A program on `foundry-compute-modules`, as somebody would write it for Palantir's platform: nothing in it knows of the bridge."""

import base64
import os
from typing import TypedDict

from compute_modules.annotations import function
from compute_modules.logging import get_logger

logger = get_logger("app")


class Key(TypedDict):
    digit: str
    call_id: str


def sound(ms):
    return {"type": "audio", "pcm16": base64.b64encode(b"\x10\x10" * (16 * ms)).decode(), "rate": 16000}


@function
def on_start(context, event):
    return "Welcome."


@function(streaming=True)
def on_transcript(context, event):
    logger.error(f"asked {event['text']}")
    if event["text"] == "bye":
        yield {"type": "say", "text": "Goodbye."}
        yield {"type": "hangup", "after": "playback", "reason": "done"}
        return
    yield "You said "
    if event["text"] == "raise":
        raise ValueError("in mid-stream")
    yield event["text"] + "."


@function
def on_utterance(context, event):
    octets = len(base64.b64decode(event["audio_b64"]))
    return {"type": "event", "name": "heard", "data": {"ms": octets // 32, "rate": event["sample_rate"]}}


@function
def on_dtmf(context, event: Key):
    key = event["digit"]
    if key == "2":
        return sound(500)
    if key == "3":
        raise KeyError("three")
    if key == "#":
        return {"type": "hangup"}
    return {"type": "event", "name": "key", "data": {"digit": key, "pid": os.getppid()}}


@function(streaming=True)
def forever(context, event):
    while True:
        yield sound(200)


@function
def on_end(context, event):
    return {"type": "event", "name": "over", "data": {"reason": event["reason"], "turns": len(event["history"])}}
