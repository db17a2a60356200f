-- disown(run) -> number of tasks that were in flight
-- Nothing of a run runs anywhere any more, and nobody will claim what was published: whoever reaps
-- next dispatches those tasks again. For a run whose server was down, and whose workers are gone.
local entries = redis.call('HGETALL', in_flight_key(run))
even_without_memory()
for i = 1, #entries, 2 do
  local dispatch, _, queue = parse_entry(entries[i + 1])
  if dispatch then
    local lease = lease_name(run, entries[i], dispatch)
    local score = redis.call('ZSCORE', leases_key(queue), lease)
    if score then write({'ZADD', leases_key(queue), score, lease}, 'ZADD', leases_key(queue), 0, lease) end
  end
end
return #entries / 2
