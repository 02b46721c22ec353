// For tests of modules: runs one as the child it will be and plays sound to it, without any bridge.

/** A message as the contract has it. */
export type Message = { type: string; [field: string]: any };

export interface Options {
  /** The caller's sound; one second of silence if not given. */
  samples?: Int16Array;
  /** Its rate, which the module must accept: nothing is converted here. 16000 if not given. */
  rate?: number;
  /** How many times faster than a call; 10 if not given. */
  speed?: number;
  /** The module's configuration. */
  config?: unknown;
  /** Messages to send when so many ms of sound were: `[[200, { type: "dtmf", digit: "5" }]]`. */
  messages?: readonly (readonly [number, Message])[];
  /** A call that carries words says these instead of sound. */
  words?: readonly string[];
  /** Environment of the child beside the test's own. */
  env?: Record<string, string>;
  /** How long it may take in all; 30000 if not given. */
  timeoutMs?: number;
}

export interface Run {
  /** All it said, in order, `pong` left out. */
  said: Message[];
  /** All it played, as octets. */
  played: Buffer;
  /** What it wrote to standard error. */
  stderr: string;
  /** How the process ended; null after a signal. */
  code: number | null;
}

/**
 * Runs `command` through one session and to its end. Every mark is answered as played and every clear as heard to the end, at once.
 * Rejects if the module does not answer in time, is gone early, or hears another rate than it is played.
 */
export function runCommand(command: readonly string[], options?: Options): Promise<Run>;
