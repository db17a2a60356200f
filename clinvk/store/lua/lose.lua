-- lose(claim_timeout_ms, losses...)
--   -> {{{exhausted lease, worker losses}, ...}, admission, {{run, error}, ...}}
-- Dispatch tasks again whose leases ran out and whose owners are gone.
--   claim_timeout_ms  how long a published task may go unclaimed
--   losses            pairs of a lease and the reason why its task counts as lost
-- A task that was never claimed was not lost: its message was, so that does not count. The first
-- value lists the leases of tasks that have no attempt left, or whose run is canceled: they stay
-- as they are until the caller records their end through finish.
local now = now_ms()
local exhausted, runs, failures = {}, {}, {}

-- Return the queue that a task was in, which is not the one that it ran through where several backends
-- may run it; that one where its spec says nothing that is true.
local function waited_in(run, index, queue)
  local is_read, found = pcall(queue_of_task, run, index)
  for _, known in ipairs(record_of(run).queues) do
    if is_read and known == found then return found end
  end
  return queue
end

local function requeue(run, index, dispatch, queue, entry)
  write({'HSET', in_flight_key(run), index, entry}, 'HDEL', in_flight_key(run), index)
  set_field(dispatches_key(run), index, dispatch)
  local waits_in = waited_in(run, index, queue)
  begin_wait(run, waits_in, index, tries_of(run, index))
  make_pending(run, waits_in, index, 'LPUSH', 'LPOP')
  runs[run] = true
end

local function max_attempts(run, index)
  return tonumber(redis.call('HGET', max_attempts_key(run), index)
                  or record_of(run).max_attempts)
end

local function lose(run, index, dispatch, lease, reason)
  local entry = redis.call('HGET', in_flight_key(run), index)
  local current, state, queue = parse_entry(entry)
  local score = queue and redis.call('ZSCORE', leases_key(queue), lease)
  if current ~= dispatch or not score or tonumber(score) > now then return end  -- renewed
  local lost = tonumber(redis.call('HGET', worker_losses_key(run), index) or 0)
  local is_running = redis.call('HGET', run_key(run), 'state') == 'running'
  if not is_running or (state == 'r' and lost + 1 >= max_attempts(run, index)) then
    exhausted[#exhausted + 1] = {lease, lost + (state == 'r' and 1 or 0)}
    return
  end
  write({'ZADD', leases_key(queue), score, lease}, 'ZREM', leases_key(queue), lease)
  requeue(run, index, dispatch, queue, entry)
  local model = state == 'r' and model_of_task(run, index) or ''
  settle(run, index, queue, model, state == 'r' and LOST or '', false, false)
  if state == 'r' then
    increment(worker_losses_key(run), index, 1)
    charge(run, index, queue, model, LOST)
    add_event(run, 'kind', 'lost', 'index', index, 'dispatch', dispatch, 'why', reason)
  end
end

for i = 1, #losses, 2 do
  local run, index, dispatch = parse_lease(losses[i])
  local failure = attempt(function() lose(run, index, dispatch, losses[i], losses[i + 1]) end)
  if failure then failures[#failures + 1] = {run, failure} end
end
for run in pairs(runs) do
  enter_fair_queues(run)
  touch(run)
end
return {exhausted, admit(claim_timeout_ms), failures}
