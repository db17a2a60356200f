-- lose(claim_timeout_ms, lease, why, lease, why, ...) -> {{{lease given up, losses}, ...}, admission}
-- Hand tasks out again, as the next dispatch, whose leases ran out and whose owners are gone.
--   ARGV[1]   how long a published task may go unclaimed
--   ARGV[2..] pairs of a lease and why its task counts as lost
-- A task that was never claimed was not lost: its message was, so that does not count. The first
-- value lists the leases of tasks that were lost once too often, or whose run is canceled: they
-- stay as they are until the caller records their end through finish.
local now = now_ms()
local exhausted, runs = {}, {}

local function requeue(run, index, dispatch, queue)
  redis.call('HDEL', out_key(run), index)
  redis.call('HSET', dispatches_key(run), index, dispatch)
  redis.call('LPUSH', pending_key(run, queue), index)
  redis.call('HINCRBY', queue_key(queue), 'waiting', 1)
  runs[run] = true
end

local function max_attempts(run, index)
  return tonumber(redis.call('HGET', max_attempts_key(run), index) or record_of(run).max_attempts)
end

local function lose(lease, why)
  local run, index, dispatch = parse_lease(lease)
  local current, state, queue = parse_entry(redis.call('HGET', out_key(run), index))
  local score = queue and tonumber(redis.call('ZSCORE', leases_key(queue), lease))
  if current ~= dispatch or not score or score > now then return end  -- renewed meanwhile
  local losses = tonumber(redis.call('HGET', worker_losses_key(run), index) or 0)
  local is_running = redis.call('HGET', run_key(run), 'state') == 'running'
  if not is_running or (state == 'r' and losses + 1 >= max_attempts(run, index)) then
    exhausted[#exhausted + 1] = {lease, losses + (state == 'r' and 1 or 0)}
    return
  end
  redis.call('ZREM', leases_key(queue), lease)
  requeue(run, index, dispatch, queue)
  if state == 'r' then
    redis.call('HSET', worker_losses_key(run), index, losses + 1)
    redis.call('XADD', events_key(run), '*', 'kind', 'lost', 'index', index,
               'dispatch', dispatch, 'why', why)
  end
end

for i = 2, #ARGV, 2 do lose(ARGV[i], ARGV[i + 1]) end
for run in pairs(runs) do
  enter_rings(run)
  touch(run)
end
return {exhausted, admit(ARGV[1])}
