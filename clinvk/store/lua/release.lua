-- release(owner, leases...) -> number of leases released
-- A worker process says, or somebody who saw its end says for it, that nothing runs any more
-- under these leases: whoever reaps next may dispatch the tasks again at once.
--   owner   the worker process
--   leases  without any, all that it holds: the process is gone, and so is its announcement, unless
--           another process has the worker's name by now. What was put into the queue of its own is
--           dispatched again as well
local count, is_withdrawn = 0, false
local worker = string.match(owner, '^[^/]*')

-- Withdraw the announcement of a process that is gone; returns whether there was one.
local function withdraw()
  local text = redis.call('GET', worker_key(worker))
  local entry = worker_entry(text)
  if not entry or entry.owner ~= owner then return false end
  write({'SET', worker_key(worker), text, 'PX', math.max(1, redis.call('PTTL', worker_key(worker)))},
        'DEL', worker_key(worker))
  remove_member(workers_key(), worker)
  remove_worker_queue(worker)
  count_capacity(now_ms())
  return true
end

local function release(lease, queue)
  local run, index, dispatch = parse_lease(lease)
  local current, state, _, claim = parse_entry(redis.call('HGET', in_flight_key(run), index))
  if current == dispatch and state == 'r' and is_owned_by(claim, owner) then
    write(nil, 'ZADD', leases_key(queue), 'XX', 0, lease)
    count = count + 1
  elseif is_withdrawn and current == dispatch and state == 'd' and claim == worker then
    write(nil, 'ZADD', leases_key(queue), 'XX', 0, lease)
  end
end

even_without_memory()
is_withdrawn = #leases == 0 and withdraw()
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
