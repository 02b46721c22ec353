// RFC 6455 as both ends speak it: keys, frames, messages. Pure; opens and reads nothing, and knows no contract.

import { createHash, randomBytes } from "node:crypto";

export const TEXT = 0x1;
export const BINARY = 0x2;
export const CLOSE = 0x8;
export const PING = 0x9;
export const PONG = 0xa;
const CONTINUATION = 0x0;
const MAX_CONTROL = 125;
const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/** The far end broke the protocol; the connection is to be closed with `code`. */
export class Violation extends Error {
  name = "Violation";

  /**
   * @param {number} code
   * @param {string} reason
   */
  constructor(code, reason) {
    super(reason);
    this.code = code;
  }
}

/**
 * What proves that a request was understood.
 * @param {string} key
 */
export function acceptKey(key) {
  return createHash("sha1").update(key + GUID).digest("base64");
}

/** A key for a request. */
export function newKey() {
  return randomBytes(16).toString("base64");
}

/**
 * Whether a key is 16 octets in base64.
 * @param {string | undefined} key
 */
export function isKey(key) {
  return /^[A-Za-z0-9+/]{22}==$/.test(key ?? "");
}

/**
 * One whole message: of a server, which masks nothing, or of a client, which `masks` all.
 * @param {number} opcode
 * @param {Uint8Array} payload
 */
export function frame(opcode, payload, masks = false) {
  const length = payload.length;
  const extra = length <= MAX_CONTROL ? 0 : length < 1 << 16 ? 2 : 8;
  const begin = 2 + extra + (masks ? 4 : 0);
  const octets = Buffer.allocUnsafe(begin + length);
  octets[0] = 0x80 | opcode;
  octets[1] = (masks ? 0x80 : 0) | (extra === 0 ? length : extra === 2 ? 126 : 127);
  if (extra === 2) octets.writeUInt16BE(length, 2);
  if (extra === 8) octets.writeBigUInt64BE(BigInt(length), 2);
  octets.set(payload, begin);
  if (masks) {
    const mask = randomBytes(4);
    octets.set(mask, begin - 4);
    applyMask(octets.subarray(begin), mask);
  }
  return octets;
}

/**
 * A close frame; of `reason`, what fits is sent.
 * @param {number} code
 */
export function closeFrame(code, reason = "", masks = false) {
  let text = Buffer.from(reason);
  if (text.length > MAX_CONTROL - 2) {
    let end = MAX_CONTROL - 2;
    // Not in the middle of a character.
    while (((text[end] ?? 0) & 0xc0) === 0x80) end -= 1;
    text = text.subarray(0, end);
  }
  const payload = Buffer.allocUnsafe(2 + text.length);
  payload.writeUInt16BE(code, 0);
  payload.set(text, 2);
  return frame(CLOSE, payload, masks);
}

/**
 * The code in a close frame; 1000 where there is none to answer with.
 * @param {Buffer} payload
 */
export function closeCode(payload) {
  return payload.length < 2 ? 1000 : payload.readUInt16BE(0);
}

/**
 * @param {Buffer} octets
 * @param {Uint8Array} mask
 */
function applyMask(octets, mask) {
  for (let at = 0; at < octets.length; at += 1) octets[at] = (octets[at] ?? 0) ^ (mask[at & 3] ?? 0);
}

/** Cuts what a client sends, or a server, into messages and control frames. */
export class Reader {
  /** @type {Buffer} */
  #buffer = Buffer.alloc(0);
  /** @type {number | undefined} */
  #opcode;
  /** @type {Buffer[]} */
  #pieces = [];
  #length = 0;
  #max;
  #isMasked;

  /**
   * @param {number} max octets of a message
   * @param {boolean} ofServer whether it is a server that sends
   */
  constructor(max, ofServer = false) {
    this.#max = max;
    this.#isMasked = !ofServer;
  }

  /**
   * Takes the next octets; yields all that they complete, in memory of its own. Throws a `Violation`.
   * @param {Buffer} data
   * @returns {Generator<{ opcode: number, payload: Buffer }>}
   */
  *feed(data) {
    this.#buffer = this.#buffer.length > 0 ? Buffer.concat([this.#buffer, data]) : data;
    for (;;) {
      const head = this.#head();
      if (!head) return;
      const { first, begin, length } = head;
      if (this.#buffer.length < begin + length) return;
      const payload = Buffer.from(this.#buffer.subarray(begin, begin + length));
      if (this.#isMasked) applyMask(payload, this.#buffer.subarray(begin - 4, begin));
      this.#buffer = this.#buffer.subarray(begin + length);
      const whole = this.#frame(first & 0x0f, (first & 0x80) !== 0, payload);
      if (whole) yield whole;
    }
  }

  /** First octet of the next frame, octets in front of its payload, and octets of that. */
  #head() {
    if (this.#buffer.length < 2) return undefined;
    const [first = 0, second = 0] = this.#buffer;
    if (first & 0x70) throw new Violation(1002, "a reserved bit is set, and no extension was agreed on");
    if (this.#isMasked !== ((second & 0x80) !== 0)) {
      throw new Violation(1002, "frames of a client are masked, and those of a server are not");
    }
    let length = second & 0x7f;
    let begin = 2;
    const isControl = (first & 0x08) !== 0;
    if (isControl && (length > MAX_CONTROL || !(first & 0x80))) {
      throw new Violation(1002, "a control frame is in pieces or too long");
    }
    if (length >= 126) {
      const extra = length === 126 ? 2 : 8;
      if (this.#buffer.length < 2 + extra) return undefined;
      length = extra === 2 ? this.#buffer.readUInt16BE(2) : Number(this.#buffer.readBigUInt64BE(2));
      begin += extra;
    }
    if (length + (isControl ? 0 : this.#length) > this.#max) {
      throw new Violation(1009, `a message is over the limit of ${this.#max} octets`);
    }
    if (this.#isMasked) begin += 4;
    return { first, begin, length };
  }

  /**
   * @param {number} opcode
   * @param {boolean} isLast
   * @param {Buffer} payload
   */
  #frame(opcode, isLast, payload) {
    if (opcode === CLOSE || opcode === PING || opcode === PONG) return { opcode, payload };
    if (opcode !== CONTINUATION && opcode !== TEXT && opcode !== BINARY) {
      throw new Violation(1002, `opcode ${opcode} is not known`);
    }
    if ((opcode === CONTINUATION) !== (this.#opcode !== undefined)) {
      throw new Violation(1002, "the pieces of a message are out of order");
    }
    this.#opcode ??= opcode;
    if (payload.length > 0) this.#pieces.push(payload);
    this.#length += payload.length;
    if (!isLast) return undefined;
    const whole = { opcode: this.#opcode, payload: this.#pieces.length === 1 ? payload : Buffer.concat(this.#pieces) };
    this.#opcode = undefined;
    this.#pieces = [];
    this.#length = 0;
    if (whole.opcode === TEXT && !isUtf8(whole.payload)) throw new Violation(1007, "a text message is not UTF-8");
    return whole;
  }
}

/** @param {Buffer} octets */
function isUtf8(octets) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(octets);
    return true;
  } catch {
    return false;
  }
}
