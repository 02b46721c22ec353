// The contract as octets: stdio frames and audio headers. Pure; opens and reads nothing.
//
// A stdio stream is a sequence of frames, all numbers little-endian:
//   0 u32 length of the body | 4 u8 kind: 0 JSON, 1 sound | 5 u8 0 | 6 u16 slot: 0 the process itself, 1.. one session each | 8 body
// With the framing `hdr16` a body of sound begins with 16 octets:
//   0 u8 1 | 1 u8 flags | 2 u16 track | 4 u32 epoch | 8 u64 position of the first sample

export const JSON_KIND = 0;
export const AUDIO_KIND = 1;
/** Largest body of a frame in octets. */
export const MAX_BODY = 262_144;
/** Octets in front of every frame. */
export const HEADER = 8;
/** Octets in front of the samples with the framing `hdr16`. */
export const AUDIO_HEADER = 16;
/** Octets of one sample. */
export const SAMPLE_OCTETS = { pcm_s16le: 2, pcm_f32le: 4, pcmu: 1, pcma: 1 };

/** What came in is not the contract; says where in the stream, what it was and what to do. */
export class WireError extends Error {
  name = "WireError";
}

/** @typedef {{ type: string, [field: string]: any }} Message */

/**
 * One stdio frame.
 * @param {number} kind
 * @param {number} slot
 * @param {Uint8Array} body
 */
export function frame(kind, slot, body) {
  if (body.length > MAX_BODY) {
    throw new RangeError(`message of ${body.length} octets; the contract allows ${MAX_BODY}`);
  }
  const octets = Buffer.allocUnsafe(HEADER + body.length);
  octets.writeUInt32LE(body.length, 0);
  octets[4] = kind;
  octets[5] = 0;
  octets.writeUInt16LE(slot, 6);
  octets.set(body, HEADER);
  return octets;
}

/**
 * A message as JSON. What is undefined is left out; NaN and what else JSON cannot say throws.
 * @param {Message} message
 */
export function dump(message) {
  const text = JSON.stringify(message, (key, value) => {
    if (typeof value === "number" && !Number.isFinite(value)) {
      throw new TypeError(`${key} of ${message.type} is ${value}; JSON has no such number`);
    }
    return value;
  });
  return Buffer.from(text);
}

/**
 * A message back from its octets.
 * @param {Buffer} body
 * @returns {Message}
 */
export function load(body) {
  let message;
  try {
    message = JSON.parse(body.toString());
  } catch {
    throw new WireError(`not JSON: ${cut(body)}`);
  }
  if (typeof message?.type !== "string") {
    throw new WireError(`JSON, but not an object with a \`type\`: ${cut(body)}`);
  }
  return message;
}

/** @param {Buffer} octets */
function cut(octets) {
  return JSON.stringify(octets.toString("latin1", 0, 80));
}

/** Cuts a stream of octets into frames. */
export class FrameReader {
  /** @type {Buffer} */
  #buffer = Buffer.alloc(0);
  #offset = 0;

  /** Octets of a frame that has begun and not ended. */
  get pending() {
    return this.#buffer.length;
  }

  /**
   * Takes the next octets; yields every frame they complete. Throws `WireError` on a header that no bridge writes, before the body is
   * waited for.
   * @param {Buffer} data
   * @returns {Generator<{ kind: number, slot: number, body: Buffer }>}
   */
  *feed(data) {
    const buffer = this.#buffer.length > 0 ? Buffer.concat([this.#buffer, data]) : data;
    let at = 0;
    while (buffer.length - at >= HEADER) {
      const length = buffer.readUInt32LE(at);
      const kind = buffer[at + 4] ?? 0;
      if (length > MAX_BODY || kind > AUDIO_KIND || buffer[at + 5] !== 0) {
        const seen = cut(buffer.subarray(at, at + HEADER));
        throw new WireError(`octet ${this.#offset + at}: ${seen} is no header of a frame; only a bridge may write here`);
      }
      if (buffer.length - at < HEADER + length) break;
      const body = buffer.subarray(at + HEADER, at + HEADER + length);
      yield { kind, slot: buffer.readUInt16LE(at + 6), body };
      at += HEADER + length;
    }
    this.#offset += at;
    this.#buffer = buffer.subarray(at);
  }
}

/**
 * Sound behind its header, from a module: track 1.
 * @param {number} epoch
 * @param {number} pts
 * @param {Uint8Array} samples
 */
export function packAudio(epoch, pts, samples, track = 1, flags = 0) {
  const body = Buffer.allocUnsafe(AUDIO_HEADER + samples.length);
  body[0] = 1;
  body[1] = flags;
  body.writeUInt16LE(track, 2);
  body.writeUInt32LE(epoch, 4);
  body.writeBigUInt64LE(BigInt(pts), 8);
  body.set(samples, AUDIO_HEADER);
  return body;
}

/**
 * Header and octets of sound.
 * @param {Buffer} body
 */
export function unpackAudio(body) {
  if (body.length < AUDIO_HEADER || body[0] !== 1) {
    throw new WireError(`sound of ${body.length} octets without a header of ${AUDIO_HEADER}`);
  }
  return {
    flags: body[1] ?? 0,
    track: body.readUInt16LE(2),
    epoch: body.readUInt32LE(4),
    pts: Number(body.readBigUInt64LE(8)),
    octets: body.subarray(AUDIO_HEADER),
  };
}

/**
 * Octets as samples, in memory of their own.
 * @param {Buffer} octets
 * @param {keyof typeof SAMPLE_OCTETS} encoding
 */
export function samplesOf(octets, encoding) {
  const own = new Uint8Array(octets);
  if (own.length % SAMPLE_OCTETS[encoding] !== 0) {
    throw new WireError(`${own.length} octets of sound are no whole number of samples of ${SAMPLE_OCTETS[encoding]}`);
  }
  if (encoding === "pcm_s16le") return new Int16Array(own.buffer);
  if (encoding === "pcm_f32le") return new Float32Array(own.buffer);
  return own;
}

/**
 * The octets behind any view of samples; shares its memory.
 * @param {ArrayBufferView} samples
 */
export function octetsOf(samples) {
  return Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength);
}
