-- Calls, and what happened on them. Times are text as RFC 3339 in UTC, which sorts by time; `source` is the bridge.
CREATE TABLE calls (
    source TEXT NOT NULL,
    call TEXT NOT NULL,
    provider TEXT NOT NULL,
    provider_call TEXT,
    listener TEXT NOT NULL,
    route TEXT,
    caller TEXT,
    callee TEXT,
    started_at TEXT,
    ended_at TEXT,
    reason TEXT,
    detail TEXT,
    duration_ms INTEGER,
    heard_ms INTEGER,
    played_ms INTEGER,
    balanced INTEGER,
    summary TEXT,
    PRIMARY KEY (source, call)
) STRICT;
CREATE INDEX calls_by_provider_call ON calls (provider_call);
CREATE INDEX calls_by_start ON calls (started_at);

CREATE TABLE transcripts (
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    call TEXT NOT NULL,
    at TEXT NOT NULL,
    module TEXT,
    utterance TEXT NOT NULL,
    track INTEGER NOT NULL,
    final INTEGER NOT NULL,
    text TEXT NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    confidence REAL,
    language TEXT,
    speaker TEXT,
    words TEXT,
    PRIMARY KEY (source, event_id)
) STRICT;
CREATE INDEX transcripts_by_call ON transcripts (call, start_ms);
CREATE INDEX transcripts_by_time ON transcripts (at);

-- What modules and providers found beside words: keys, turns, speech, events that modules name, figures, words they had spoken.
CREATE TABLE results (
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    call TEXT NOT NULL,
    at TEXT NOT NULL,
    at_ms INTEGER,
    module TEXT,
    type TEXT NOT NULL,
    name TEXT,
    data TEXT NOT NULL,
    PRIMARY KEY (source, event_id)
) STRICT;
CREATE INDEX results_by_call ON results (call, at);
CREATE INDEX results_by_name ON results (type, name, at);

-- What the bridge tells: calls that start and end, modules that come and go, errors, drops.
CREATE TABLE events (
    source TEXT NOT NULL,
    event_id TEXT NOT NULL,
    call TEXT NOT NULL,
    at TEXT NOT NULL,
    module TEXT,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (source, event_id)
) STRICT;
CREATE INDEX events_by_call ON events (call, at);
CREATE INDEX events_by_type ON events (type, at);
