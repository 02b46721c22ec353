"""PocketSphinx as the bridge runs it: a child process, fed the sound of a call at the pace of a call.

    python3 -m unittest discover compute-modules/transcribe -v

Needs `pocketsphinx` and the SDK beside this folder; skipped without them. Prints the figures it measures.
"""

import importlib.util
import os
import pathlib
import resource
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SDK = ROOT / "compute-modules" / "python" / "src"
AUDIO = ROOT / "test-audio"
sys.path.insert(0, str(SDK))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(SDK), os.environ.get("PYTHONPATH")]))

from ringback._sound import encode, read_wav, resample  # noqa: E402
from ringback._wire import AUDIO as SOUND, JSON, dump, load  # noqa: E402
from ringback.testing import Child, _start, run_command, word_error_rate  # noqa: E402

HAVE_POCKETSPHINX = importlib.util.find_spec("pocketsphinx") is not None
MODULE = [sys.executable, str(ROOT / "compute-modules" / "transcribe" / "transcribe.py")]
CALL = "call-appointment.wav"
PATIENCE = 30


def described(name):
    """The manifest's entry of a file."""
    import tomllib

    manifest = tomllib.loads((AUDIO / "MANIFEST.toml").read_text("utf-8"))
    return next(file for file in manifest["file"] if file["name"] == name)


def finals(seen):
    return [one for one in seen if one.type == "transcript" and one.message["final"]]


def text_of(transcripts):
    return " ".join(one.message["text"] for one in transcripts)


@unittest.skipUnless(HAVE_POCKETSPHINX, "needs pocketsphinx")
class LiveCall(unittest.TestCase):
    def test_a_call_at_its_own_pace(self):
        spoken = described(CALL)["utterances"]
        busy = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        seen = list(run_command(MODULE, str(AUDIO / CALL), speed=1))
        got = finals(seen)
        self.assertEqual(len(got), len(spoken), text_of(got))
        rate = word_error_rate(described(CALL)["text"], text_of(got))
        self.assertLess(rate, 0.15, text_of(got))
        guesses = [s for s in seen if s.type == "transcript" and not s.message["final"]]
        late, first = [], []
        for one, said in zip(got, spoken):
            self.assertLess(abs(one.message["start_ms"] - said["start_ms"]), 300)
            self.assertLess(abs(one.message["end_ms"] - said["end_ms"]), 500)
            late.append(round(one.after_s * 1000) - said["end_ms"])
            of_it = [g for g in guesses if g.message["id"] == one.message["id"]]
            self.assertGreater(len(of_it), 3)
            first.append(round(of_it[0].after_s * 1000) - said["start_ms"])
        self.assertEqual({g.message["id"] for g in guesses}, {one.message["id"] for one in got})
        load = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - busy
        print(f"\n{CALL} at 1x: WER {rate:.1%}, {load:.1f} s of one core in all")
        print(
            f"final after the end of speech, ms: {late}; first guess after its start, ms: {first}"
        )
        self.assertEqual(seen[-1].type, "done")

    def test_single_files(self):
        for name in ("sentence.wav", "sentence-ulaw.wav", "digits.wav"):
            got = finals(run_command(MODULE, str(AUDIO / name), speed=2))
            rate = word_error_rate(described(name)["text"], text_of(got))
            print(f"\n{name}: WER {rate:.1%}", end="")
            self.assertLess(rate, 0.15, text_of(got))

    def test_fast_setting(self):
        run = run_command(MODULE, str(AUDIO / "sentence.wav"), speed=2, config={"fast": True})
        self.assertIn("open on saturday", text_of(finals(run)))

    def test_finalize_in_mid_sentence_brings_the_words_so_far(self):
        ask = [(1400, {"type": "finalize", "id": "f1"})]
        seen = list(run_command(MODULE, str(AUDIO / "sentence.wav"), speed=2, messages=ask))
        asked = [s.message for s in finals(seen) if s.message.get("finalize_id") == "f1"]
        self.assertEqual(len(asked), 1)
        self.assertTrue(asked[0]["text"].startswith("what time"), asked[0]["text"])
        self.assertEqual([s.message["id"] for s in seen if s.type == "finalized"], ["f1"])

    def test_hanging_up_in_mid_sentence_keeps_the_words(self):
        rate, samples = read_wav(str(AUDIO / "sentence.wav"))
        said = Session().feed(resample(samples[: rate * 2], rate, 16000)).stop()
        got = [m for m in said if m["type"] == "transcript" and m["final"]]
        self.assertTrue(got[0]["text"].startswith("what time"), got)


@unittest.skipUnless(HAVE_POCKETSPHINX, "needs pocketsphinx")
class Crash(unittest.TestCase):
    def test_killed_in_mid_sentence_the_replay_from_its_ack_has_it_whole(self):
        rate, samples = read_wav(str(AUDIO / CALL))
        samples = resample(samples, rate, 16000)
        killed_at_ms = 8_500  # in the middle of the second sentence
        first = Session()
        first.feed(samples[: killed_at_ms * 16])
        first.until(lambda m: m["type"] == "transcript" and "telephone" in m["text"])
        first.child.process.kill()
        first.child.close()
        acked = [m["in_ms"] for m in first.said if m["type"] == "ack"][-1]
        self.assertGreater(acked, 5_000)  # the first sentence is done with
        self.assertLess(acked, 6_410)  # the second not begun
        before = [m["text"] for m in first.said if m["type"] == "transcript" and m["final"]]

        second = Session(resume_ms=acked)
        said = second.feed(samples[acked * 16 :]).stop()
        after = [m for m in said if m["type"] == "transcript" and m["final"]]
        text = " ".join([*before, *(m["text"] for m in after)])
        self.assertLess(word_error_rate(described(CALL)["text"], text), 0.15, text)
        self.assertLess(abs(after[0]["start_ms"] - 6_410), 300)  # on the clock of the call


class Session:
    """A session with the module as a child, sound sent as fast as the pipe takes it."""

    def __init__(self, resume_ms=None):
        self.child = Child(MODULE)
        self.said = []
        self.child.send(JSON, dump(_start(None, resume_ms, 8000)))
        self.until(lambda m: m["type"] == "ready")

    def feed(self, samples):
        octets = encode(samples, "pcm_s16le")
        for at in range(0, len(octets), 640):
            self.child.send(SOUND, octets[at : at + 640])
        return self

    def until(self, found):
        deadline = time.monotonic() + PATIENCE
        while not (self.said and found(self.said[-1])):
            arrived = self.child.arrived.get(timeout=deadline - time.monotonic())
            if arrived is None:
                raise AssertionError("the module is gone")
            self.said.append(load(arrived[1]))

    def stop(self):
        """Ends the session; all it said."""
        self.child.send(JSON, dump({"type": "stop", "reason": "hangup", "deadline_ms": 60_000}))
        self.until(lambda m: m["type"] == "done")
        self.child.close()
        return self.said


if __name__ == "__main__":
    unittest.main()
