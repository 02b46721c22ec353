"""Sound for tests: encodings, rates, WAV files, and the count of wrong words."""

import math
import os
import struct
import tempfile
import unittest

from ringback._sound import decode, encode, read_wav, resample, write_wav
from ringback.testing import word_error_rate, word_errors

from . import support  # noqa: F401


def tone(hertz, rate, seconds=0.5, peak=10_000):
    step = 2 * math.pi * hertz / rate
    return [round(peak * math.sin(step * n)) for n in range(int(rate * seconds))]


def level(samples):
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    return math.sqrt(sum(s * s for s in middle) / len(middle))


class Encodings(unittest.TestCase):
    def test_g711_known_values(self):
        # ITU-T G.711 tables 1a and 2a: ends and middle of the scale, in 16-bit samples.
        self.assertEqual(decode(b"\x00\x80\xff\x7f", "pcmu"), [-32124, 32124, 0, 0])
        self.assertEqual(decode(b"\xd5\x55\xaa\x2a", "pcma"), [8, -8, 32256, -32256])

    def test_every_g711_octet_survives(self):
        for encoding in ("pcmu", "pcma"):
            for octet in range(256):
                again = encode(decode(bytes([octet]), encoding), encoding)[0]
                minus_zero = encoding == "pcmu" and octet == 0x7F
                self.assertEqual(again, 0xFF if minus_zero else octet)

    def test_linear_encodings_are_exact(self):
        samples = [0, 1, -1, 32767, -32768, 12345]
        for encoding in ("pcm_s16le", "pcm_f32le"):
            self.assertEqual(decode(encode(samples, encoding), encoding), samples)


class Rates(unittest.TestCase):
    def test_a_tone_keeps_its_level_and_its_images_are_gone(self):
        for rate, to_rate in ((8000, 16000), (16000, 8000), (8000, 24000), (16000, 24000)):
            samples = tone(1000, rate)
            got = resample(samples, rate, to_rate)
            self.assertEqual(len(got), len(samples) * to_rate // rate)
            expected = tone(1000, to_rate)
            wrong = [a - b for a, b in zip(got, expected)]
            self.assertLess(level(wrong), level(expected) / 100, f"{rate} to {to_rate}")

    def test_what_the_lower_rate_cannot_hold_is_removed(self):
        samples = tone(6000, 16000)
        self.assertLess(level(resample(samples, 16000, 8000)), level(samples) / 100)

    def test_loud_sound_is_clipped_not_wrapped(self):
        square = ([32767] * 8 + [-32768] * 8) * 100
        got = resample(square, 8000, 16000)
        self.assertEqual((max(got), min(got)), (32767, -32768))


class Wav(unittest.TestCase):
    def setUp(self):
        handle, self.path = tempfile.mkstemp(suffix=".wav")
        os.close(handle)
        self.addCleanup(os.unlink, self.path)

    def test_what_was_written_is_read(self):
        samples = tone(440, 8000)
        write_wav(self.path, 8000, samples)
        self.assertEqual(read_wav(self.path), (8000, samples))

    def test_mu_law_and_unknown_chunks(self):
        sound = encode(tone(440, 8000), "pcmu")
        head = struct.pack("<HHIIHH", 7, 1, 8000, 8000, 1, 8)
        chunks = b"LIST" + struct.pack("<I", 3) + b"abc\0"
        chunks += b"fmt " + struct.pack("<I", 16) + head
        chunks += b"data" + struct.pack("<I", len(sound)) + sound
        with open(self.path, "wb") as file:
            file.write(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
        self.assertEqual(read_wav(self.path), (8000, decode(sound, "pcmu")))

    def test_what_is_no_wav_is_named(self):
        with open(self.path, "wb") as file:
            file.write(b"not sound")
        with self.assertRaisesRegex(ValueError, "no WAV file"):
            read_wav(self.path)


class Words(unittest.TestCase):
    def test_each_kind_of_error_counts_once(self):
        self.assertEqual(word_errors("one two three", "one two three"), (0, 3))
        self.assertEqual(word_errors("one two three", "one too three"), (1, 3))
        self.assertEqual(word_errors("one two three", "one three"), (1, 3))
        self.assertEqual(word_errors("one two three", "one and two three"), (1, 3))
        self.assertEqual(word_errors("one two three", ""), (3, 3))
        self.assertEqual(word_errors("a b c d", "b c d e"), (2, 4))

    def test_rate(self):
        self.assertEqual(word_error_rate("One two", "one TWO"), 0.0)
        self.assertEqual(word_error_rate("one two", "x y z"), 1.5)


if __name__ == "__main__":
    unittest.main()
