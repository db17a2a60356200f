-- reap(max_attempts, limit, complete_after_ms)
--   -> {{lost lease...}, {run, admitted, run, admitted...}, {complete run...}}
-- Find leases that ran out and hand their tasks out again as the next attempt.
--   ARGV[1]  how many times a task may be lost before it is given up
--   ARGV[2]  how many leases to look at in one call
--   ARGV[3]  how long a complete run may wait for its chord's body
-- A task that was never claimed was not lost: its message was, so it does not count.
-- The first value lists the leases of tasks to give up (they stay as they are until the
-- caller records LOST through finish); the third, runs to aggregate.
local now = now_ms()
local given_up, readmitted, runs = {}, {}, {}
local due = redis.call('ZRANGEBYSCORE', leases_key(), '-inf', now, 'LIMIT', 0, ARGV[2])
for _, lease in ipairs(due) do
  local run, index, attempt = string.match(lease, '^(.+):(%d+):(%d+)$')
  local entry = redis.call('HGET', out_key(run), index)
  local state, queue
  if entry then state, queue = string.match(entry, '^' .. attempt .. ':(%a):(.+)$') end
  local losses = tonumber(redis.call('HGET', losses_key(run), index) or 0)
  if not state then
    redis.call('ZREM', leases_key(), lease)
  elseif state == 'r' and losses + 1 >= tonumber(ARGV[1]) then
    given_up[#given_up + 1] = lease
  elseif redis.call('HGET', run_key(run), 'state') ~= 'running' then
    -- Canceled, and its worker is gone: nobody else will record it.
    given_up[#given_up + 1] = lease
  else
    redis.call('ZREM', leases_key(), lease)
    redis.call('HDEL', out_key(run), index)
    redis.call('HSET', attempts_key(run), index, attempt)
    redis.call('LPUSH', pending_key(run, queue), index)
    if state == 'r' then
      redis.call('HSET', losses_key(run), index, losses + 1)
      redis.call('XADD', events_key(run), '*', 'kind', 'lost', 'index', index,
                 'attempt', attempt)
    end
    runs[run] = true
  end
end
for run in pairs(runs) do
  readmitted[#readmitted + 1] = run
  readmitted[#readmitted + 1] = admit(run)
  touch(run)
end
local complete = redis.call('ZRANGEBYSCORE', complete_key(), '-inf', now - ARGV[3])
return {given_up, readmitted, complete}
