-- $1: events as a JSON array; $2: the bridge.
INSERT INTO transcripts (source, event_id, call, at, module, utterance, track, final, text, start_ms, end_ms, confidence, language, speaker, words)
SELECT
    $2,
    e ->> 'event_id',
    e ->> 'call',
    (e ->> 'at')::timestamptz,
    e ->> 'module',
    e ->> 'id',
    (e ->> 'track')::integer,
    (e ->> 'final')::boolean,
    e ->> 'text',
    (e ->> 'start_ms')::bigint,
    (e ->> 'end_ms')::bigint,
    (e ->> 'confidence')::double precision,
    e ->> 'language',
    e ->> 'speaker',
    e -> 'words'
FROM jsonb_array_elements($1::jsonb) AS batch (e)
WHERE e ->> 'type' = 'transcript'
ON CONFLICT (source, event_id) DO NOTHING;
