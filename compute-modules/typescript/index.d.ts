// Ringback compute modules in TypeScript: hear a phone call live, answer with text, sound and control.
//
// Fields of messages (`at_ms`, `played_ms` ...) are written as the contract writes them; names of this kit are in camelCase.
// All times are whole milliseconds on the session's media clock: 0 is the caller's first sample.

/** How samples are written, both ways. */
export type Encoding = "pcm_s16le" | "pcm_f32le" | "pcmu" | "pcma";

/** Samples in an encoding; those of G.711 are octets. */
export type Samples<E extends Encoding> = {
  pcm_s16le: Int16Array;
  pcm_f32le: Float32Array;
  pcmu: Uint8Array;
  pcma: Uint8Array;
}[E];

/** Frame flag: sound before this frame is missing. */
export const DISCONTINUITY: 1;
/** Frame flag: at least part of the frame was made up to conceal loss. */
export const SYNTHESIZED: 2;
/** Frame flag: somebody speaks in it. */
export const SPEECH: 4;
/** Frame flag: last frame of a segment. */
export const END_OF_SEGMENT: 8;

/** The call a session belongs to. */
export interface Call {
  /** The bridge's, unique. */
  readonly id: string;
  /** Calling number or name, if known. */
  readonly from?: string;
  /** Called number or name, if known. */
  readonly to?: string;
  /** `inbound` or `outbound`, if known. */
  readonly direction?: string;
  /** Name of the provider. */
  readonly provider: string;
  /** Custom parameters the provider passed on. */
  readonly meta: Readonly<Record<string, unknown>>;
}

/** A slice of time of one track. */
export interface Frame<E extends Encoding = "pcm_s16le"> {
  readonly samples: Samples<E>;
  /** Position of the first sample on the media clock, in samples. */
  readonly pts: number;
  /** Samples per second. */
  readonly rate: number;
  readonly track: number;
  /** Any of `DISCONTINUITY`, `SYNTHESIZED`, `SPEECH`, `END_OF_SEGMENT`; known with framing `hdr16`. */
  readonly flags: number;
  /** When it begins. */
  readonly at_ms: number;
  /** When it ends. */
  readonly end_ms: number;
}

/** A key was pressed. */
export interface Dtmf {
  readonly track?: number;
  /** `0`-`9`, `*`, `#`, `A`-`D`. */
  readonly digit: string;
  readonly duration_ms?: number;
  /** How it was learnt. */
  readonly source?: "provider" | "inband" | "rfc4733";
  readonly at_ms?: number;
}

/** Speech began or ended, as a voice activity detector on this call sees it. */
export interface Vad {
  readonly track?: number;
  /** What it is now. */
  readonly state: "speech" | "silence";
  /** Since when. */
  readonly at_ms: number;
  readonly probability?: number;
}

/** A mark of yours was reached, or cleared before it was. */
export interface Mark {
  readonly name: string;
  /** Playback generation it was set in. */
  readonly epoch: number;
  readonly status: "played" | "cleared";
  /** Sound of this epoch the caller had heard by then. */
  readonly played_ms: number;
}

/** All queued playback was dropped, by this module or because the caller spoke. */
export interface Cleared {
  /** Playback generation that ended. */
  readonly epoch: number;
  /** Sound of it the caller heard. */
  readonly played_ms: number;
  /** Sound of it the caller will never hear. */
  readonly discarded_ms: number;
  /** Words of it the caller heard, on a call that carries words, if known. */
  readonly heard?: string;
}

/** Playback of this module's sound began, ran dry or ended. */
export interface Playback {
  readonly epoch: number;
  readonly state: "started" | "idle" | "underrun" | "paused";
  /** Sound of the epoch heard so far. */
  readonly played_ms: number;
}

/** Sound of a track that this module will not get. */
export interface Gap {
  readonly track: number;
  readonly from_ms: number;
  readonly to_ms: number;
  /** `backpressure`: this module was too slow. */
  readonly reason: "backpressure" | "provider" | "paused" | "resume";
}

/** A private part of the call began or ended. */
export interface Private {
  /** What has just happened. In between, modules that the route does not exempt hear silence. */
  readonly state: "began" | "ended";
  readonly at_ms: number;
}

/** The caller agreed to be recorded, or no longer does. */
export interface Consent {
  /** Whether the caller agrees. */
  readonly given: boolean;
  /** Since when. */
  readonly at_ms: number;
  /** Who says so: the name of a module, or `operator`. */
  readonly by: string;
  /** How that is known. */
  readonly how?: string;
}

/** One word of a transcript: the word, begin and end in ms, confidence from 0 to 1. */
export interface Word {
  readonly w: string;
  readonly s: number;
  readonly e: number;
  readonly c?: number;
}

/** Words of the caller that another module heard, or the provider on a call that carries words. */
export interface Transcript {
  /** Names the utterance; the same id replaces an earlier one that was not final. */
  readonly id: string;
  readonly text: string;
  readonly final?: boolean;
  readonly track?: number;
  readonly start_ms?: number;
  readonly end_ms?: number;
  readonly confidence?: number;
  readonly language?: string;
  readonly speaker?: string;
  readonly words?: readonly Word[];
}

/** Words of yours that the provider has spoken to the caller. */
export interface Spoken {
  /** The words since those told before. */
  readonly text: string;
  readonly epoch: number;
}

/** Something named by the user or another module. */
export interface NamedEvent {
  readonly name: string;
  readonly data?: unknown;
}

export type TurnEvent = "start" | "update" | "eager_end" | "resumed" | "end";

export interface TurnOptions {
  turn?: number;
  confidence?: number;
  /** What decided. */
  trigger?: "model" | "manual" | "timeout";
  text?: string;
}

export interface VadOptions {
  /** Since when; else now. */
  at_ms?: number;
  probability?: number;
  track?: number;
}

export interface TranscriptOptions {
  /** False: a guess that the next one of the same track replaces. */
  final?: boolean;
  /** Without it, guesses and the final text after them share one. */
  id?: string;
  /** Without times, the utterance lasts from its first guess until now. */
  start_ms?: number;
  end_ms?: number;
  confidence?: number;
  /** BCP 47 tag. */
  language?: string;
  speaker?: string;
  words?: readonly Word[];
  track?: number;
}

export interface SayOptions {
  /** False while more of the utterance comes; pieces are joined as they are. */
  last?: boolean;
  /** BCP 47 tag, if it is not the usual one. */
  language?: string;
}

export interface PlayUrlOptions {
  /** How often; 0 as often as the provider will. */
  loop?: number;
  /** What you say or play next takes its place at once. */
  preemptible?: boolean;
  /** Whether the caller can cut it off. */
  interruptible?: boolean;
}

export interface HangupOptions {
  /** `now`, or `playback`: when all queued sound was heard. */
  after?: "now" | "playback";
  /** Anything JSON can say, for whoever goes on with the call, where the provider hands it on. */
  data?: unknown;
}

export interface ErrorOptions {
  /** The session ends; the call goes on as its route says. */
  fatal?: boolean;
  retryable?: boolean;
  retry_after_ms?: number;
  vendor?: unknown;
}

/** One call as your module sees it. After the session has ended its methods do nothing. */
export interface Session<S = undefined> {
  /** Yours: what `state` of the module made for this session. */
  state: S;
  /** The `start` message as it came. */
  readonly start: Readonly<Record<string, any>>;
  /** Names the session: one call, one module. */
  readonly id: string;
  /** Who calls whom. */
  readonly call: Call;
  /** The module's configuration, as in the route. */
  readonly config: any;
  /** Whether this goes on from a session whose process or connection was lost. */
  readonly resumed: boolean;
  /** End of the sound handed to handlers so far; it goes on after a crash. */
  readonly nowMs: number;
  /** End of the sound received so far, also what still waits for a handler. */
  readonly heardMs: number;
  /** Playback generation; one more after every clear. */
  readonly epoch: number;
  /** Why the session ended: `hangup`, `replaced`, `drain`, `timeout`, `error`, or `gone` if the bridge vanished. */
  readonly stopReason: string | undefined;
  /** Whether `onFilter` is called: others hear what it returns. */
  readonly filters: boolean;
  /** Samples per second of the sound that handlers are given. */
  readonly rate: number;
  /** Whether `play` reaches anybody. */
  readonly canSpeak: boolean;
  /** Whether `say` reaches anybody: the call carries words, the provider hears and speaks by itself. */
  readonly canSay: boolean;
  /** Whether `playUrl` reaches anybody. */
  readonly canPlayUrl: boolean;

  /** Words heard; returns the id of the utterance. */
  transcript(text: string, options?: TranscriptOptions): string;
  /** The caller's turn. */
  turn(event: TurnEvent, options?: TurnOptions): void;
  /** Speech began or ended. */
  vad(state: "speech" | "silence", options?: VadOptions): void;

  /**
   * Queues sound for the caller, of any length: samples in `encoding` at `speaks`. False if the caller will not hear it: nobody may speak
   * on this call, or somebody talked into it and your handler has not been told yet.
   */
  play(samples: ArrayBufferView): boolean;
  /** Resolves when the bridge has taken most of what was played. Await it between long plays. */
  drain(): Promise<void>;
  /** The utterance is complete: play the rest, however short. */
  endOfAudio(): void;
  /** Has the provider speak this, on a call that carries words (`canSay`). False as with `play`. */
  say(text: string, options?: SayOptions): boolean;
  /** Has the provider fetch a file and play it, where it does (`canPlayUrl`). False as with `play`. */
  playUrl(url: string, options?: PlayUrlOptions): boolean;
  /** On a call that carries words: what the provider speaks and recognises from now on, as BCP 47 tags. */
  language(languages: { speech?: string; recognition?: string }): void;
  /** Drops all queued playback, here and at the provider. `onCleared` tells how much of it was heard. */
  clear(): void;
  /** Asks to be told (`onMark`) when all that was played before has been heard. */
  mark(name: string): void;
  /** Holds playback at this very sample. */
  pause(): void;
  /** Goes on playing where `pause` held. */
  resume(): void;

  /** From now on what is said and pressed is for the modules that the route names for it, and for no recording, log or event. */
  beginPrivate(maxMs?: number): void;
  /** The call is for everybody again. */
  endPrivate(): void;
  /** The caller agreed to be recorded, or no longer does; `how` that is known is kept with the recording. */
  consent(given?: boolean, how?: string): void;
  /** Presses keys: `0`-`9`, `*`, `#`, `A`-`D`. */
  dtmf(digits: string, options?: { tone_ms?: number; gap_ms?: number }): void;
  /** Ends the call. */
  hangup(reason?: string, options?: HangupOptions): void;
  /** Moves the call elsewhere; `to` as the provider spells it. */
  transfer(to: string): void;

  /** Something with a dotted lower-case name, kept with the call's events. */
  event(name: string, data?: unknown): void;
  /** A line for the bridge's log. */
  log(level: "debug" | "info" | "warn" | "error", msg: string, fields?: Record<string, unknown>): void;
  /** A figure for the bridge's metrics. */
  metric(name: string, value: number, unit?: string): void;
  /** With `autoAck: false`: all sound up to here was used and need not be replayed after a crash. Cheap to call often. */
  ack(inMs: number): void;
  /** Something went wrong. */
  error(code: string, message?: string, options?: ErrorOptions): void;
}

type Result = void | Promise<void>;
/** What a filter returns. */
export type Filtered<E extends Encoding> = Samples<E> | undefined | void | Promise<Samples<E> | undefined | void>;

/**
 * What a module asks for and what it is told. Everything is optional. Handlers of one session run one at a time and in order; each may be
 * `async`. All of them share the process's one thread: what computes for longer than a second belongs into a `worker_threads` worker,
 * because a process that answers no ping for two seconds is taken for dead.
 */
export interface Definition<S = undefined, E extends Encoding = "pcm_s16le"> {
  /** Name in logs. */
  name?: string;
  /** Your version. */
  version?: string;
  /** What it can be used as; else seen from the handlers. */
  kinds?: readonly ("tap" | "agent" | "filter" | "text")[];
  /** Samples per second you want to hear; 16000 if not given. The bridge converts. */
  rate?: number;
  /** How samples are written, both ways; `pcm_s16le` if not given. */
  encoding?: E;
  /** Length of the pieces of sound you get; 20 if not given. */
  frameMs?: number;
  /** Tracks to hear: 0 the caller, 1 what the caller hears; `[0]` if not given. More than one needs `hdr16` and `onFrame`. */
  tracks?: readonly number[];
  /** `raw` (if not given): lost time comes as silence. `hdr16`: every frame tells track, position and flags. */
  framing?: "raw" | "hdr16";
  /** Samples per second of the sound you `play`; absent if you only listen. */
  speaks?: number;
  /** What a backlog of your sound means: `clip` (if not given) all of it is to be played, `live` trim what piles up in a stall. */
  pace?: "clip" | "live";
  /** Calls this process takes at once; 1 if not given. */
  maxSessions?: number;
  /** What the bridge does when you cannot keep up; `drop_oldest` if not given. */
  overflow?: "drop_oldest" | "spool" | "fail";
  /** Sound waiting here for a slow handler; beyond it the oldest is dropped and told as a gap. 30000 if not given. */
  maxQueueMs?: number;
  /** Tell the bridge after each handler that its sound was used; true if not given. */
  autoAck?: boolean;

  /** Makes `s.state` for each session. */
  state?: (s: Session<undefined>) => S;
  /** Once per process, before any session is ready: load models here. A failure ends the process with code 70. */
  onLoad?(): Result;
  /**
   * How busy this process is, from 0 to 1, for bridges it has dialled: the least busy worker gets the call. Without it, as its number of
   * sessions says. Asked every two seconds.
   */
  currentLoad?(): number | undefined | Promise<number | undefined>;
  /** A session begins; it is ready when this is done. Sound from before that is not lost. Throw `Reject` to decline. */
  onStart?(s: Session<S>): Result;
  /** The next sound. `s.nowMs` is where it ends. The samples are yours to keep. */
  onAudio?(s: Session<S>, samples: Samples<E>): Result;
  /** Like `onAudio` and instead of it: sound with its track, position and flags. */
  onFrame?(s: Session<S>, frame: Frame<E>): Result;
  /**
   * The next sound of the caller, in a module that is used as a filter, and called in the place of `onAudio`: return as much sound,
   * which everybody else hears in its place, or nothing for it as it is. It has the call's own rate, `s.rate`, and a budget of a few
   * milliseconds; after that it passes as it was. The samples may be changed in place and returned.
   */
  onFilter?(s: Session<S>, samples: Samples<E>): Filtered<E>;
  /** Sound is missing. */
  onGap?(s: Session<S>, gap: Gap): Result;
  onDtmf?(s: Session<S>, dtmf: Dtmf): Result;
  onVad?(s: Session<S>, vad: Vad): Result;
  onText?(s: Session<S>, text: Transcript): Result;
  onSpoken?(s: Session<S>, spoken: Spoken): Result;
  onMark?(s: Session<S>, mark: Mark): Result;
  /** What you play or say from here on is heard again. */
  onCleared?(s: Session<S>, cleared: Cleared): Result;
  onPlayback?(s: Session<S>, playback: Playback): Result;
  /** Unless the route exempts this module, it hears silence in a private part. */
  onPrivate?(s: Session<S>, part: Private): Result;
  /** Said before this session began, it is told at once. */
  onConsent?(s: Session<S>, consent: Consent): Result;
  onEvent?(s: Session<S>, event: NamedEvent): Result;
  /** New configuration; `s.config` already is it. */
  onUpdate?(s: Session<S>, config: any): Result;
  /** Make all you heard final now. Answered for you when this is done. */
  onFinalize?(s: Session<S>): Result;
  /** The session is over (`s.stopReason`): send your last transcripts. Answered for you when this is done. */
  onStop?(s: Session<S>): Result;
}

/** Thrown by `onStart` to turn a session down. */
export class Reject extends Error {
  /** `code` is `busy`, `unsupported_format`, `bad_config`, `unauthorized` or a word of your own; `message` is for a person. */
  constructor(code: string, message?: string, options?: { retryable?: boolean; retry_after_ms?: number });
  readonly code: string;
}

/** The definition as it is, with its types inferred. */
export function defineModule<S = undefined, E extends Encoding = "pcm_s16le">(definition: Definition<S, E>): Definition<S, E>;

/**
 * Serves the bridge that started this process until it closes standard input or sends SIGTERM, then exits: 0 all done, 64 started by hand,
 * 65 standard input is no bridge, 70 the module could not be loaded. Last in your file.
 *
 * With `--serve HOST:PORT` on the command line it serves bridges that dial it instead, see `serve`; with `--connect URL` it dials a bridge
 * and waits there for calls, see `connect`; `--help` beside them tells more.
 */
export function run<S = undefined, E extends Encoding = "pcm_s16le">(definition: Definition<S, E>): void;

export interface ServeOptions {
  /** Where to listen: `127.0.0.1:9000`; port 0 takes a free one. */
  address: string;
  /** What bridges must show as a bearer token. Without one, only this machine is served. */
  token?: string;
  /** Calls at a time, in the place of `maxSessions` of the module. */
  maxSessions?: number;
  /** Serve others without a token. */
  insecure?: boolean;
}

/**
 * Serves bridges that dial it, one connection for each call, until SIGTERM or Ctrl-C, then exits: 0 all done, 64 it needs a token, 69 the
 * address cannot be listened on, 70 the module could not be loaded. Prints its URL once it listens. Throws for an address that is none.
 */
export function serve<S = undefined, E extends Encoding = "pcm_s16le">(definition: Definition<S, E>, options: ServeOptions): void;

export interface ConnectOptions {
  /** Where modules dial in: `wss://bridge.example/modules/NAME`. Several are dialled alike. */
  url: string | readonly string[];
  /** Shown as a bearer token. Without one a bridge lets in who is on its own machine, if at all. */
  token?: string;
  /** Calls at a time, in the place of `maxSessions` of the module. */
  maxSessions?: number;
  /** File with the authorities to trust, in the place of those that Node.js trusts. */
  caFile?: string;
  /** Time for calls to end after SIGTERM; 20000 if not given. */
  drainMs?: number;
}

/**
 * Dials bridges and waits there for calls until SIGTERM or Ctrl-C; exits when those it has are over, after `drainMs`, or on a second
 * signal: 0 all done, 69 no bridge lets it in, 70 the module could not be loaded. A bridge that is gone is dialled again. Throws for a URL
 * that is none.
 */
export function connect<S = undefined, E extends Encoding = "pcm_s16le">(definition: Definition<S, E>, options: ConnectOptions): void;
