-- ?1: events as a JSON array; ?2: the bridge.
INSERT INTO events (source, event_id, call, at, module, type, data)
SELECT
    ?2,
    e ->> 'event_id',
    e ->> 'call',
    e ->> 'at',
    e ->> 'module',
    e ->> 'type',
    e
FROM (SELECT value AS e FROM json_each(?1))
WHERE e ->> 'type' NOT IN ('transcript', 'dtmf', 'turn', 'vad', 'event', 'metric', 'say')
ON CONFLICT (source, event_id) DO NOTHING;
