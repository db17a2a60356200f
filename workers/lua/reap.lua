-- reap(max_attempts, limit, complete_after_ms, handout_ms)
--   -> {{lost lease...}, admission, {complete run...}}
-- Find leases that ran out and hand their tasks out again as the next attempt.
--   ARGV[1]  how many times a task may be lost before it is given up
--   ARGV[2]  how many leases of a queue to look at in one call
--   ARGV[3]  how long a complete run may wait for its chord's body
--   ARGV[4]  how long a published task may go unclaimed
-- A task that was never claimed was not lost: its message was, so it does not count.
-- The first value lists the leases of tasks to give up (they stay as they are until the
-- caller records LOST through finish); the third, runs to aggregate.
local now = now_ms()
local given_up, runs = {}, {}

local function requeue(run, index, attempt, queue)
  redis.call('HDEL', out_key(run), index)
  redis.call('HSET', attempts_key(run), index, attempt)
  redis.call('LPUSH', pending_key(run, queue), index)
  redis.call('HINCRBY', queue_key(queue), 'waiting', 1)
  runs[run] = true
end

local function look_at(lease, leases)
  local run, index, attempt = string.match(lease, '^(.+):(%d+):(%d+)$')
  local current, state, queue = parse_entry(redis.call('HGET', out_key(run), index))
  if current ~= attempt then
    redis.call('ZREM', leases, lease)
    return
  end
  local losses = tonumber(redis.call('HGET', losses_key(run), index) or 0)
  local is_running = redis.call('HGET', run_key(run), 'state') == 'running'
  if not is_running or (state == 'r' and losses + 1 >= tonumber(ARGV[1])) then
    given_up[#given_up + 1] = lease
    return
  end
  redis.call('ZREM', leases, lease)
  requeue(run, index, attempt, queue)
  if state == 'r' then
    redis.call('HSET', losses_key(run), index, losses + 1)
    redis.call('XADD', events_key(run), '*', 'kind', 'lost', 'index', index,
               'attempt', attempt)
  end
end

for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
  local leases = leases_key(queue)
  for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now,
                                    'LIMIT', 0, ARGV[2])) do
    look_at(lease, leases)
  end
end
for run in pairs(runs) do
  enter_rings(run)
  touch(run)
end
local admission = admit(ARGV[4])
for run in pairs(runs) do touch(run) end
return {given_up, admission, redis.call('ZRANGEBYSCORE', complete_key(), '-inf', now - ARGV[3])}
