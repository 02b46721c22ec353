-- ?1: events as a JSON array; ?2: the bridge.
INSERT INTO calls (source, call, provider, provider_call, listener, route, caller, callee, started_at)
SELECT
    ?2,
    e ->> 'call',
    e ->> 'provider',
    e ->> 'provider_call',
    e ->> 'listener',
    e ->> 'route',
    e ->> 'from',
    e ->> 'to',
    e ->> 'at'
FROM (SELECT value AS e FROM json_each(?1))
WHERE e ->> 'type' = 'call.started'
ON CONFLICT (source, call) DO UPDATE SET
    provider_call = excluded.provider_call,
    route = excluded.route,
    caller = excluded.caller,
    callee = excluded.callee,
    started_at = excluded.started_at;
