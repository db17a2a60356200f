-- count_running(queues...) -> {now_ms, {number, ...}}
-- Count, for each queue, the tasks that a worker has claimed; and say what time it is. Writes nothing.
local counts = {}
for i, queue in ipairs(queues) do
  counts[i] = 0
  for _, lease in ipairs(redis.call('ZRANGE', leases_key(queue), 0, -1)) do
    local run, index = parse_lease(lease)
    local _, state = parse_entry(redis.call('HGET', in_flight_key(run), index))
    if state == 'r' then counts[i] = counts[i] + 1 end
  end
end
return {now_ms(), counts}
