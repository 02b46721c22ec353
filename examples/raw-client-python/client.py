#!/usr/bin/env python3
"""A caller without a phone: streams a WAV file to the bridge's raw listener in real time, prints results, keeps the reply.

    pip install websockets
    python3 client.py call.wav
    python3 client.py call.wav --url 'ws://127.0.0.1:8080/raw?encoding=l16&rate=16000' --reply reply.wav

The WAV file must be mono and 16-bit. `{rate}` in the URL becomes its rate. Text messages are printed as they come, one a line;
binary messages are 16-bit samples at the same rate.
"""

import argparse
import asyncio
import sys
import wave

import websockets

FRAME_MS = 20


async def send(socket, sound, rate):
    """Sends `sound` at the pace it was recorded; late frames do not delay those after them."""
    loop = asyncio.get_running_loop()
    octets = rate * FRAME_MS // 1000 * 2
    began = loop.time()
    for index, at in enumerate(range(0, len(sound), octets)):
        await socket.send(sound[at : at + octets])
        await asyncio.sleep(began + (index + 1) * FRAME_MS / 1000 - loop.time())


async def receive(socket, reply):
    """Prints text, collects sound, until the bridge closes."""
    try:
        async for message in socket:
            if isinstance(message, str):
                print(message, flush=True)
            else:
                reply.extend(message)
    except websockets.ConnectionClosedError as closed:
        print(f"the bridge closed: {closed}", file=sys.stderr)


async def call(url, sound, rate, wait):
    """One call; what was played to the caller."""
    reply = bytearray()
    async with websockets.connect(url) as socket:
        receiving = asyncio.create_task(receive(socket, reply))
        try:
            await send(socket, sound, rate)
        except websockets.ConnectionClosed:
            pass  # The bridge hung up first; `receive` says why.
        # Last results and the rest of the reply come after the last word.
        await asyncio.wait([receiving], timeout=wait)
        await socket.close()
        await receiving
    return bytes(reply)


def main():
    parser = argparse.ArgumentParser(description="Streams a WAV file to the raw listener.")
    parser.add_argument("wav")
    parser.add_argument("--url", default="ws://127.0.0.1:8080/raw?encoding=l16&rate={rate}")
    parser.add_argument("--reply", help="WAV file for the sound that comes back")
    parser.add_argument("--wait", type=float, default=3.0, help="seconds to listen at the end")
    options = parser.parse_args()
    try:
        with wave.open(options.wav) as wav:
            form = (wav.getnchannels(), wav.getsampwidth())
            rate, sound = wav.getframerate(), wav.readframes(wav.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        sys.exit(f"{options.wav}: {error}")
    if form != (1, 2):
        sys.exit(f"{options.wav}: not mono and 16-bit")
    url = options.url.replace("{rate}", str(rate))
    try:
        reply = asyncio.run(call(url, sound, rate, options.wait))
    except (OSError, websockets.InvalidHandshake) as error:
        sys.exit(f"{url}: {error}")
    if options.reply:
        with wave.open(options.reply, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(2)
            wav.setframerate(rate)
            wav.writeframes(reply)
        print(f"{options.reply}: {len(reply) / 2 / rate:.2f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
