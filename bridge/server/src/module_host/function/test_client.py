"""A client of the runtime's protocol in nothing but the standard library, as a program of its own. A mode says how it misbehaves.

Speaks HTTPS like the Python client: to host and port, with the paths of the URLs, and trusts the certificate it is given.
"""

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from urllib.parse import urlparse

mode = sys.argv[1]
env = os.environ
with open(env["MODULE_AUTH_TOKEN"]) as file:
    token = file.read()
trust = ssl.create_default_context(cafile=env["CONNECTIONS_TO_OTHER_PODS_CA_PATH"])


def ask(method, url, body=None, suffix=""):
    line = http.client.HTTPSConnection(env["RUNTIME_HOST"], int(env["RUNTIME_PORT"]), context=trust)
    line.request(method, urlparse(env[url]).path + suffix, body, {"Module-Auth-Token": token})
    answer = line.getresponse()
    return answer.status, answer.read()


stopping = False


def stop(*_):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
if mode == "exit":
    print("no such luck", file=sys.stderr)
    sys.exit(3)
if mode.startswith("once:"):
    # The first time it ends before it is ready, though with no error.
    if not os.path.exists(mode[5:]):
        open(mode[5:], "w").close()
        sys.exit(0)
schemas = [] if mode == "empty" else [{"functionName": "on_dtmf", "inputs": [], "output": {"type": "string"}}]
assert ask("POST", "POST_SCHEMA_URI", json.dumps(schemas))[0] == 204
assert ask("POST", "RESTART_NOTIFICATION_URI")[0] == 200
family = subprocess.Popen(["sleep", "600"]) if mode == "family" else None
while not stopping:
    status, body = ask("GET", "GET_JOB_URI")
    if status != 200:
        continue
    job = json.loads(body)["computeModuleJobV1"]
    if mode == "slow":
        time.sleep(0.3)
    while mode == "stuck" and job["query"]["digit"] == "1":
        time.sleep(1)
    pids = [os.getpid()] + ([family.pid] if family else [])
    result = {"type": "event", "name": "did", "data": {"digit": job["query"]["digit"], "pids": pids, "env": env["COMPUTE_SESSION_ID"]}}
    assert ask("POST", "POST_RESULT_URI", json.dumps(result), "/" + job["jobId"])[0] == 204
    if mode == "crash" and job["query"]["digit"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
