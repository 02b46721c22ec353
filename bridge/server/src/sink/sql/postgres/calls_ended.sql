-- $1: events as a JSON array; $2: the bridge.
INSERT INTO calls (source, call, provider, provider_call, listener, route, ended_at, reason, detail, duration_ms, heard_ms, played_ms, balanced, summary)
SELECT
    $2,
    e ->> 'call',
    e ->> 'provider',
    e ->> 'provider_call',
    e ->> 'listener',
    e ->> 'route',
    (e ->> 'at')::timestamptz,
    e ->> 'reason',
    e ->> 'detail',
    (e ->> 'duration_ms')::bigint,
    (e ->> 'heard_ms')::bigint,
    (e ->> 'played_ms')::bigint,
    (e ->> 'balanced')::boolean,
    e
FROM jsonb_array_elements($1::jsonb) AS batch (e)
WHERE e ->> 'type' = 'call.ended'
ON CONFLICT (source, call) DO UPDATE SET
    provider_call = excluded.provider_call,
    route = excluded.route,
    ended_at = excluded.ended_at,
    reason = excluded.reason,
    detail = excluded.detail,
    duration_ms = excluded.duration_ms,
    heard_ms = excluded.heard_ms,
    played_ms = excluded.played_ms,
    balanced = excluded.balanced,
    summary = excluded.summary;
