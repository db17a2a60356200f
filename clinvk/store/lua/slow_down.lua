-- slow_down(run, index, dispatch, kind, worker) -> 1 if its gate was told
-- A running task met a burst limit, and its CLI tries again by itself: the gate of its queue learns of it
-- at once, and not when the task ends.
--   kind, worker  the kind of error, and who met it: they are shown with the gate
local entry = redis.call('HGET', in_flight_key(run), index)
local current, state, queue, _, started_ms = parse_entry(entry)
if current ~= dispatch or state ~= 'r' then return 0 end
note_limit(queue, '', 'burst', started_ms, nil, kind, worker, redis.call('ZCARD', leases_key(queue)))
return 1
