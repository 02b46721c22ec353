// What a module imports. See `index.d.ts` for what each of it means.

export { run } from "./run.js";
export { serve } from "./server.js";
export { connect } from "./worker.js";
export { Reject } from "./reject.js";
export const DISCONTINUITY = 1;
export const SYNTHESIZED = 2;
export const SPEECH = 4;
export const END_OF_SEGMENT = 8;

/** @param {any} definition */
export function defineModule(definition) {
  return definition;
}
