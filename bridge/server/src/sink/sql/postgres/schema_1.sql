-- Calls, and what happened on them. `source` is the bridge.
CREATE TABLE calls (
    source text NOT NULL,
    call text NOT NULL,
    provider text NOT NULL,
    provider_call text,
    listener text NOT NULL,
    route text,
    caller text,
    callee text,
    started_at timestamptz,
    ended_at timestamptz,
    reason text,
    detail text,
    duration_ms bigint,
    heard_ms bigint,
    played_ms bigint,
    balanced boolean,
    summary jsonb,
    PRIMARY KEY (source, call)
);
CREATE INDEX calls_by_provider_call ON calls (provider_call);
CREATE INDEX calls_by_start ON calls (started_at);

CREATE TABLE transcripts (
    source text NOT NULL,
    event_id text NOT NULL,
    call text NOT NULL,
    at timestamptz NOT NULL,
    module text,
    utterance text NOT NULL,
    track integer NOT NULL,
    final boolean NOT NULL,
    text text NOT NULL,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    confidence double precision,
    language text,
    speaker text,
    words jsonb,
    PRIMARY KEY (source, event_id)
);
CREATE INDEX transcripts_by_call ON transcripts (call, start_ms);
CREATE INDEX transcripts_by_time ON transcripts (at);

-- What modules and providers found beside words: keys, turns, speech, events that modules name, figures, words they had spoken.
CREATE TABLE results (
    source text NOT NULL,
    event_id text NOT NULL,
    call text NOT NULL,
    at timestamptz NOT NULL,
    at_ms bigint,
    module text,
    type text NOT NULL,
    name text,
    data jsonb NOT NULL,
    PRIMARY KEY (source, event_id)
);
CREATE INDEX results_by_call ON results (call, at);
CREATE INDEX results_by_name ON results (type, name, at);

-- What the bridge tells: calls that start and end, modules that come and go, errors, drops.
CREATE TABLE events (
    source text NOT NULL,
    event_id text NOT NULL,
    call text NOT NULL,
    at timestamptz NOT NULL,
    module text,
    type text NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (source, event_id)
);
CREATE INDEX events_by_call ON events (call, at);
CREATE INDEX events_by_type ON events (type, at);
