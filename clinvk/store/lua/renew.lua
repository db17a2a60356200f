-- renew(owner, connection, connection_ms, lease_ms, leases...) -> {{lease, ...} to stop, now (ms)}
-- Renew the leases of everything that one worker process runs, and the records of their runs, in
-- one call. Returns those that it must stop: their run was canceled, or the task is no longer
-- theirs.
--   owner          the worker process
--   connection     its liveness connection, "<run id of the server>:<client id>", see
--                  failure_detector.py
--   connection_ms  how long to remember that
--   lease_ms       the length of the leases
--   leases         "<run>:<index>:<dispatch>"
-- A task that the record shows as not claimed is claimed here: a server that crashed may have
-- lost the last moments before it, and nobody else can run this dispatch. What was released stays
-- so: this call and that one may have crossed.
local deadline_ms = integer(now_ms() + lease_ms)
local stop, runs = {}, {}

local function renew(lease)
  local run, index, dispatch = parse_lease(lease)
  local entry = redis.call('HGET', in_flight_key(run), index)
  local current, state, queue, claim = parse_entry(entry)
  if current ~= dispatch then return false end
  if state == 'd' then
    claim = owner .. '/renewed'
    write({'HSET', in_flight_key(run), index, entry},
          'HSET', in_flight_key(run), index, claimed_entry(dispatch, queue, claim))
  end
  if not is_owned_by(claim, owner) or redis.call('ZSCORE', leases_key(queue), lease) == '0' then
    return false
  end
  write(nil, 'ZADD', leases_key(queue), deadline_ms, lease)
  touch_shared(leases_key(queue))
  runs[run] = true
  return redis.call('HGET', run_key(run), 'state') == 'running'
end

even_without_memory()
write(nil, 'SET', liveness_key(owner), connection, 'PX', connection_ms)
for _, lease in ipairs(leases) do
  local goes_on = false
  -- A run whose keys cannot be read is stopped, and the leases of others are renewed all the same.
  attempt(function() goes_on = renew(lease) end)
  if not goes_on then stop[#stop + 1] = lease end
end
for run in pairs(runs) do attempt(function() touch(run) end) end
return {stop, integer(now_ms())}
