#!/usr/bin/env python3
"""Holds the sound files of this folder to MANIFEST.toml: octets, format, length, size. Needs Python 3.11 and nothing else.

    python3 test-audio/check.py            or as tests: python3 -m unittest test-audio/check.py

Where flite and sox are installed it also makes every file anew and compares.
"""

import hashlib
import pathlib
import shutil
import struct
import subprocess
import tempfile
import tomllib
import unittest

HERE = pathlib.Path(__file__).resolve().parent
MANIFEST = tomllib.loads((HERE / "MANIFEST.toml").read_text("utf-8"))
FILES = MANIFEST["file"]
LARGEST = 300_000
LARGEST_TOGETHER = 1_500_000
FORMATS = {(1, 16): "pcm_s16le", (7, 8): "pcmu"}


def read_format(wav: bytes) -> dict:
    """Rate, channels, encoding and samples of a WAV file, read from its chunks."""
    at, form, data = 12, b"", b""
    while at + 8 <= len(wav):
        name, size = struct.unpack_from("<4sI", wav, at)
        if name == b"fmt ":
            form = wav[at + 8 : at + 8 + size]
        elif name == b"data":
            data = wav[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", form)
    encoding = FORMATS.get((tag, bits))
    return {"rate": rate, "channels": channels, "encoding": encoding, "samples": len(data) // align}


class Manifest(unittest.TestCase):
    def test_every_file_is_listed_and_every_listed_file_is_there(self):
        there = {path.name for path in HERE.glob("*.wav")}
        self.assertEqual(there, {file["name"] for file in FILES})

    def test_octets_are_the_ones_described(self):
        for file in FILES:
            with self.subTest(file["name"]):
                wav = (HERE / file["name"]).read_bytes()
                self.assertEqual(hashlib.sha256(wav).hexdigest(), file["sha256"])
                found = read_format(wav)
                self.assertEqual(found, {key: file[key] for key in found})
                self.assertEqual(file["duration_ms"], file["samples"] * 1000 // file["rate"])

    def test_utterances_are_in_order_and_say_the_text(self):
        for file in FILES:
            with self.subTest(file["name"]):
                spoken = file["utterances"]
                times = [at for one in spoken for at in (one["start_ms"], one["end_ms"])]
                self.assertEqual(times, sorted(times))
                self.assertLessEqual(max(times, default=0), file["duration_ms"])
                self.assertEqual(" ".join(one["text"] for one in spoken), file["text"])

    def test_the_folder_stays_small(self):
        sizes = [(HERE / file["name"]).stat().st_size for file in FILES]
        self.assertLess(max(sizes), LARGEST)
        self.assertLess(sum(sizes), LARGEST_TOGETHER)

    @unittest.skipUnless(shutil.which("flite") and shutil.which("sox"), "needs flite and sox")
    def test_making_them_again_gives_the_same_octets(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["sh", HERE / "make.sh", folder], check=True, stderr=subprocess.DEVNULL)
            for file in FILES:
                made = (pathlib.Path(folder) / file["name"]).read_bytes()
                self.assertEqual(hashlib.sha256(made).hexdigest(), file["sha256"], file["name"])


if __name__ == "__main__":
    unittest.main()
