"""Runs the module as the child the bridge would start. `python3 -m unittest` in this folder."""

import os
import struct
import sys
import tempfile
import unittest
import wave

import ringback.testing

HERE = os.path.dirname(os.path.abspath(__file__))
COMMAND = [sys.executable, os.path.join(HERE, "SNAKE.py")]


class Test(unittest.TestCase):
    def events(self, sample, messages=()):
        """What the module says to half a second of this sample."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "sound.wav")
            with wave.open(path, "wb") as sound:
                sound.setparams((1, 2, 16000, 0, "NONE", ""))
                sound.writeframes(struct.pack("<h", sample) * 8000)
            seen = list(ringback.testing.run_command(COMMAND, path, speed=10, messages=messages))
        return [one.message for one in seen]

    def test_loud_sound_is_told(self):
        told = [message for message in self.events(25000) if message["type"] == "event"]
        self.assertEqual(told[0]["name"], "too.loud")

    def test_quiet_sound_is_not(self):
        self.assertNotIn("event", [message["type"] for message in self.events(100)])

    def test_a_key_hangs_up(self):
        said = self.events(0, messages=[(100, {"type": "dtmf", "digit": "#"})])
        self.assertIn("hangup", [message["type"] for message in said])


if __name__ == "__main__":
    unittest.main()
