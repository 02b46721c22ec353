"""Hears from the bridge when a recording is there: a webhook receiver in the standard library that believes no one without a signature."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import sys
import time

SECRET = base64.b64decode(os.environ["SIGNING_SECRET"].removeprefix("whsec_"))
SEEN = set()  # an event may come twice, with the same id


def is_signed(headers, body):
    name, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not sent.isdigit() or abs(time.time() - int(sent)) > 300:
        return False
    mac = hmac.new(SECRET, f"{name}.{sent}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(mac)
    signatures = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(wanted, given) for given in signatures)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("content-length", 0)), 1 << 20))
        signed = is_signed(self.headers, body)
        self.send_response(204 if signed else 401)
        self.end_headers()
        event = json.loads(body) if signed else {"id": None, "data": {}}
        if event["data"].get("name") == "recorder.finished" and event["id"] not in SEEN:
            SEEN.add(event["id"])
            recording = event["data"]["data"]
            print(f"{event['subject']}: {recording['ms'] / 1000:.1f} s in {recording['path']}", flush=True)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 9100), Receiver)
print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
