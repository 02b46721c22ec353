-- $1: events as a JSON array; $2: the bridge.
INSERT INTO results (source, event_id, call, at, at_ms, module, type, name, data)
SELECT
    $2,
    e ->> 'event_id',
    e ->> 'call',
    (e ->> 'at')::timestamptz,
    (e ->> 'at_ms')::bigint,
    e ->> 'module',
    e ->> 'type',
    e ->> 'name',
    e
FROM jsonb_array_elements($1::jsonb) AS batch (e)
WHERE e ->> 'type' IN ('dtmf', 'turn', 'vad', 'event', 'metric', 'say')
ON CONFLICT (source, event_id) DO NOTHING;
