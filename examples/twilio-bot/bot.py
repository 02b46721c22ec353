#!/usr/bin/env python3
"""A bot for Twilio Media Streams, of the kind people have: a parrot that says back what you said, and stops when you cut in.

    python3 bot.py [port]        # 5000 without one; 0 takes a free one

It knows nothing of Ringback. Keys are printed, and # hangs up. Nothing is needed but Python.
"""

import asyncio
import base64
import hashlib
import json
import sys

SILENCE = 0.6  # seconds without speech after which it is the parrot's turn
LOUD = 600  # of 32,767


def loudness(payload):
    """Mean of the samples' size, of mu-law as in ITU-T G.711."""
    sizes = ((((~octet & 0x0F) << 3) + 0x84 << ((~octet & 0x70) >> 4)) - 0x84 for octet in payload)
    return sum(sizes) / max(len(payload), 1)


class Parrot:
    def __init__(self, send):
        self.send = send
        self.heard = b""  # speech since the last answer
        self.quiet = 0.0  # seconds since it ended
        self.answers = 0
        self.playing = set()  # marks that Twilio has not sent back

    async def on_start(self, start):
        self.stream = start["streamSid"]
        print("call", json.dumps(start["customParameters"], sort_keys=True), flush=True)

    async def on_media(self, media):
        sound = base64.b64decode(media["payload"])
        if loudness(sound) > LOUD:
            if self.playing:
                await self.send({"event": "clear", "streamSid": self.stream})
            self.heard, self.quiet = self.heard + sound, 0.0
        elif self.heard:
            self.heard, self.quiet = self.heard + sound, self.quiet + len(sound) / 8000
            if self.quiet > SILENCE:
                await self.answer()

    async def answer(self):
        self.answers += 1
        name = f"answer-{self.answers}"
        payload = base64.b64encode(self.heard).decode()
        await self.send({"event": "media", "streamSid": self.stream, "media": {"payload": payload}})
        await self.send({"event": "mark", "streamSid": self.stream, "mark": {"name": name}})
        self.playing.add(name)
        print(name, f"{len(self.heard) / 8000:.1f} s", flush=True)
        self.heard = b""

    async def on_mark(self, mark):
        self.playing.discard(mark["name"])
        print(mark["name"], "was heard", flush=True)

    async def on_dtmf(self, dtmf):
        print("key", dtmf["digit"], flush=True)
        return dtmf["digit"] == "#"


async def talk(receive, send):
    """One call, until Twilio or the parrot hangs up."""
    parrot = Parrot(send)
    while (text := await receive()) is not None:
        message = json.loads(text)
        handler = getattr(parrot, "on_" + message["event"], None)
        if handler and await handler(message[message["event"]]):
            print("hung up", flush=True)
            return
    print("the caller hung up", flush=True)


# What follows is a WebSocket server in Python's standard library; with the package `websockets` it is three lines.


async def serve(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    path = head.split(" ")[1]
    key = next((line.split(":", 1)[1].strip() for line in head.splitlines() if line.lower().startswith("sec-websocket-key:")), None)
    if key is None or path.split("?")[0] != "/":
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return writer.close()
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())

    def write(opcode, payload):
        length = len(payload)
        size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2, "big") if length < 65536 else b"\x7f" + length.to_bytes(8, "big")
        writer.write(bytes([0x80 | opcode]) + size + payload)

    async def send(message):
        write(1, json.dumps(message).encode())
        await writer.drain()

    async def receive():
        whole = b""
        while True:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length > 125:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            mask = await reader.readexactly(4)
            payload = bytes(octet ^ mask[i % 4] for i, octet in enumerate(await reader.readexactly(length)))
            opcode = first & 0x0F
            if opcode == 8:
                return None
            if opcode == 9:
                write(10, payload)
            elif opcode < 3:
                whole += payload
                if first & 0x80:
                    return whole.decode()

    try:
        await talk(receive, send)
        write(8, (1000).to_bytes(2, "big"))
        await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        print("the line was cut", flush=True)
    finally:
        writer.close()


async def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
