// Which transport a module file runs on: its one last line serves them all. Carries nothing itself.

import { readFileSync } from "node:fs";
import { endianness } from "node:os";
import { parseArgs } from "node:util";
import { EXIT_USAGE, TOKEN_VARIABLE, serve } from "./server.js";
import { isChild, runStdio } from "./stdio.js";
import { DRAIN_MS, connect } from "./worker.js";

const HELP = `\
--serve HOST:PORT      wait for bridges that dial it, at this address
--connect URL          dial a bridge and wait there for calls: wss://bridge.example/modules/NAME; may be given several times
--max-sessions N       calls at a time, if not as the module says
--token-file FILE      file with the bearer token; else ${TOKEN_VARIABLE}
--insecure             with --serve: serve others without a token
--ca-file FILE         with --connect: authorities to trust, in the place of the system's
--drain-seconds N      with --connect: time for calls to end after SIGTERM, ${DRAIN_MS / 1_000} if not given
`;

/** @param {any} definition */
export function run(definition) {
  if (endianness() !== "LE" || process.platform === "win32") {
    throw new Error("ringback: modules run on Linux, macOS and other little-endian POSIX systems");
  }
  const words = process.argv.slice(2);
  const asksFor = (/** @type {string} */ flag) => words.some((word) => word === flag || word.startsWith(`${flag}=`));
  if (isChild() || !(asksFor("--serve") || asksFor("--connect"))) return runStdio(definition);
  try {
    elsewhere(definition, words);
  } catch (error) {
    process.stderr.write(`ringback: ${error instanceof Error ? error.message : error}\n`);
    process.exit(EXIT_USAGE);
  }
}

/**
 * @param {any} definition
 * @param {string[]} words
 */
function elsewhere(definition, words) {
  const { values } = parseArgs({
    args: words,
    options: {
      serve: { type: "string" },
      connect: { type: "string", multiple: true },
      "max-sessions": { type: "string" },
      "token-file": { type: "string" },
      insecure: { type: "boolean" },
      "ca-file": { type: "string" },
      "drain-seconds": { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    process.exit(0);
  }
  const number = (/** @type {string | undefined} */ text, /** @type {string} */ flag) => {
    if (text === undefined) return undefined;
    const found = Number(text);
    if (!Number.isFinite(found) || found < 0) throw new TypeError(`${flag} ${text}: expected a number`);
    return found;
  };
  const file = values["token-file"];
  const token = file === undefined ? process.env[TOKEN_VARIABLE] : readFileSync(file, "utf8").trim();
  if (token === "") throw new TypeError("the token is empty");
  const maxSessions = number(values["max-sessions"], "--max-sessions");
  const common = { ...(token === undefined ? {} : { token }), ...(maxSessions === undefined ? {} : { maxSessions }) };
  if (values.serve !== undefined) {
    return serve(definition, { ...common, address: values.serve, insecure: values.insecure ?? false });
  }
  const drain = number(values["drain-seconds"], "--drain-seconds");
  const caFile = values["ca-file"];
  connect(definition, {
    ...common,
    url: values.connect ?? [],
    ...(drain === undefined ? {} : { drainMs: drain * 1_000 }),
    ...(caFile === undefined ? {} : { caFile }),
  });
}
