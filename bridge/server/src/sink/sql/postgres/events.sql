-- $1: events as a JSON array; $2: the bridge.
INSERT INTO events (source, event_id, call, at, module, type, data)
SELECT
    $2,
    e ->> 'event_id',
    e ->> 'call',
    (e ->> 'at')::timestamptz,
    e ->> 'module',
    e ->> 'type',
    e
FROM jsonb_array_elements($1::jsonb) AS batch (e)
WHERE e ->> 'type' NOT IN ('transcript', 'dtmf', 'turn', 'vad', 'event', 'metric', 'say')
ON CONFLICT (source, event_id) DO NOTHING;
