"""Writes silero-vad-16k.f32 from the initialisers of silero_vad_16k_op15.onnx; layout in README.md.

Usage: python convert.py path/to/silero_vad-6.2.3-py3-none-any.whl silero-vad-16k.f32   (needs `onnx` and `numpy`)
"""

import io
import struct
import sys
import zipfile

import numpy
import onnx
from onnx import numpy_helper

GRAPH = "silero_vad/data/silero_vad_16k_op15.onnx"

# Name in the graph and shape, in the order of the file.
TENSORS = [
    ("model.stft.forward_basis_buffer", (258, 1, 256)),
    ("model.encoder.0.reparam_conv.weight", (128, 129, 3)),
    ("model.encoder.0.reparam_conv.bias", (128,)),
    ("model.encoder.1.reparam_conv.weight", (64, 128, 3)),
    ("model.encoder.1.reparam_conv.bias", (64,)),
    ("model.encoder.2.reparam_conv.weight", (64, 64, 3)),
    ("model.encoder.2.reparam_conv.bias", (64,)),
    ("model.encoder.3.reparam_conv.weight", (128, 64, 3)),
    ("model.encoder.3.reparam_conv.bias", (128,)),
    ("model.decoder.rnn.weight_ih", (512, 128)),
    ("model.decoder.rnn.weight_hh", (512, 128)),
    ("model.decoder.rnn.bias_ih", (512,)),
    ("model.decoder.rnn.bias_hh", (512,)),
    ("model.decoder.decoder.2.weight", (1, 128, 1)),
    ("model.decoder.decoder.2.bias", (1,)),
]


def main(wheel, target):
    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load(io.BytesIO(archive.read(GRAPH))).graph
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    flat = []
    for name, shape in TENSORS:
        tensor = found[name]
        if tensor.shape != shape or tensor.dtype != numpy.float32:
            sys.exit(f"{name}: want float32 {shape}, found {tensor.dtype} {tensor.shape}")
        flat.append(tensor.ravel())
    weights = numpy.concatenate(flat).astype("<f4")
    with open(target, "wb") as out:
        out.write(struct.pack("<8sII", b"SILERO16", 1, weights.size))
        out.write(weights.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
