-- ?1: events as a JSON array; ?2: the bridge.
INSERT INTO transcripts (source, event_id, call, at, module, utterance, track, final, text, start_ms, end_ms, confidence, language, speaker, words)
SELECT
    ?2,
    e ->> 'event_id',
    e ->> 'call',
    e ->> 'at',
    e ->> 'module',
    e ->> 'id',
    e ->> 'track',
    e ->> 'final',
    e ->> 'text',
    e ->> 'start_ms',
    e ->> 'end_ms',
    e ->> 'confidence',
    e ->> 'language',
    e ->> 'speaker',
    e -> 'words'
FROM (SELECT value AS e FROM json_each(?1))
WHERE e ->> 'type' = 'transcript'
ON CONFLICT (source, event_id) DO NOTHING;
