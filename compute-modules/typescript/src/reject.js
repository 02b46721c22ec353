// How a module turns a session down. Nothing else.

export class Reject extends Error {
  name = "Reject";

  /**
   * @param {string} code
   * @param {string} [message]
   * @param {{ retryable?: boolean, retry_after_ms?: number }} [options]
   */
  constructor(code, message = "", options = {}) {
    super(message);
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.retry_after_ms = options.retry_after_ms;
  }
}
