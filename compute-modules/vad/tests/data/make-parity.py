"""Writes parity.txt: what ONNX Runtime makes of the sounds that tests/parity.rs builds in the same way, window by window.

Usage: python make-parity.py path/to/silero_vad-6.2.3-py3-none-any.whl   (needs `onnxruntime` and `numpy`)
"""

import pathlib
import sys
import zipfile

import numpy
import onnxruntime

HERE = pathlib.Path(__file__).parent
GRAPH = "silero_vad/data/silero_vad_16k_op15.onnx"
# Half of a symmetric half-band filter in 1/32768; the same numbers stand in tests/common/mod.rs.
HALF_BAND = [20798, -6759, 3854, -2548, 1785, -1279, 920, -656, 459, -314, 207, -130, 77, -42, 20, -8]


def mu_law(octets):
    code = ~numpy.frombuffer(octets, numpy.uint8)
    magnitude = (((code & 15).astype(int) << 3) + 132 << ((code >> 4) & 7)) - 132
    return numpy.where(code & 128, -magnitude, magnitude)


def upsample(samples):
    wide = numpy.pad(samples, 16)
    sums = numpy.full(len(samples), 1 << 14)
    for k, weight in enumerate(HALF_BAND):
        sums += weight * (wide[16 - k :][: len(samples)] + wide[17 + k :][: len(samples)])
    doubled = numpy.empty(2 * len(samples), int)
    doubled[0::2] = samples
    doubled[1::2] = numpy.clip(sums >> 15, -32768, 32767)
    return doubled


def noise(length):
    seed, samples = 1, numpy.empty(length, int)
    for n in range(length):
        seed = (seed * 1_664_525 + 1_013_904_223) % 2**32
        samples[n] = (seed >> 16) - 32768
    return samples


def probabilities(session, samples):
    context = numpy.zeros((1, 64), numpy.float32)
    state = numpy.zeros((2, 1, 128), numpy.float32)
    for start in range(0, len(samples) - 511, 512):
        window = (samples[start : start + 512] / 32768).astype(numpy.float32)[None]
        feed = {"input": numpy.concatenate([context, window], 1), "state": state, "sr": numpy.array(16000)}
        output, state = session.run(None, feed)
        context = window[:, -64:]
        yield output.item()


def main(wheel):
    with zipfile.ZipFile(wheel) as archive:
        session = onnxruntime.InferenceSession(archive.read(GRAPH))
    speech = upsample(mu_law((HERE / "speech-8k.ulaw").read_bytes()))
    hiss = noise(len(speech))
    steps = numpy.arange(64_000) // 16_000
    sounds = {
        "speech": speech,
        "noise": hiss[:64_000] >> numpy.array([1, 3, 5, 9])[steps],
        "speech-in-noise": numpy.clip(speech + (hiss >> 4), -32768, 32767),
    }
    with open(HERE / "parity.txt", "w") as out:
        for name, samples in sounds.items():
            print(name, file=out)
            for probability in probabilities(session, samples):
                print(f"{probability:.6f}", file=out)


if __name__ == "__main__":
    main(*sys.argv[1:])
