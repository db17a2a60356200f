-- release(owner, leases...) -> number of leases released
-- A worker process says, or somebody who saw its end says for it, that nothing runs any more
-- under these leases: whoever reaps next may dispatch the tasks again at once.
--   owner   the worker process
--   leases  without any, all that it holds
local count = 0

local function release(lease, queue)
  local run, index, dispatch = parse_lease(lease)
  local current, state, _, claim = parse_entry(redis.call('HGET', in_flight_key(run), index))
  if current == dispatch and state == 'r' and is_owned_by(claim, owner) then
    write(nil, 'ZADD', leases_key(queue), 'XX', 0, lease)
    count = count + 1
  end
end

even_without_memory()
for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
  local candidates = leases
  if #leases == 0 then candidates = redis.call('ZRANGE', leases_key(queue), 0, -1) end
  for _, lease in ipairs(candidates) do
    if redis.call('ZSCORE', leases_key(queue), lease) then
      attempt(function() release(lease, queue) end)
    end
  end
end
return count
