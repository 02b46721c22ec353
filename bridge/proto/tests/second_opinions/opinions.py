"""Answers questions about providers' messages and credentials with the code of others: one JSON object a line in, one out.

Judges nothing: what was meant and what was understood is compared by who asks.
"""

import asyncio
import base64
import json
import sys
import time
import traceback
from importlib.metadata import version

import absent  # First: stands in for what the others only import.
from loguru import logger

logger.remove()

from clients import CLIENTS  # noqa: E402
from servers import SERVERS  # noqa: E402
from signatures import KINDS  # noqa: E402


def introduce(role, table):
    for provider, kind in table:
        told = {"role": role, "provider": provider, "package": kind.package, "version": version(kind.package)}
        told["vendors_own"] = getattr(kind, "vendors_own", False)
        lists = {name: list(getattr(kind, name, [])) for name in ("hears", "says", "formats")}
        yield told | lists


class Opinions:
    def __init__(self):
        self.server = self.client = None

    async def introduce(self):
        servers, clients = introduce("server", SERVERS), introduce("client", CLIENTS)
        credentials = {kind: [package, version(package)] for kind, (_, _, package) in KINDS.items()}
        return {"packages": [*servers, *clients], "credentials": credentials}

    async def open(self, role, provider, package, encoding, rate):
        table = SERVERS if role == "server" else CLIENTS
        [made] = [kind(encoding, rate) for name, kind in table if (name, kind.package) == (provider, package)]
        setattr(self, role, made)

    async def hear(self, message):
        return await self.server.hear(message["text"] if "text" in message else base64.b64decode(message["binary"]))

    async def say(self, order):
        return await self.server.say(order)

    async def write(self, event):
        return self.client.write(event)

    async def now(self):
        return int(time.time())

    async def sign(self, kind, **how):
        return KINDS[kind][0](**how)

    async def verify(self, kind, **how):
        return KINDS[kind][1](**how)


async def main():
    opinions = Opinions()
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = {"answer": await getattr(opinions, question.pop("do"))(**question)}
        except Exception:
            answer = {"failed": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


assert absent.ABSENT
asyncio.run(main())
