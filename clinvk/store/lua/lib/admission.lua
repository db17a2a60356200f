-- Admission: which tasks are dispatched next. A task is dispatched while its run has fewer than
-- max_parallel in flight, its queue fewer than its limit, and the fleet a free slot that serves it.

-- Find out how many slots live workers have, for each queue and in all, and how many are taken.
-- Where a lease is over, its owner is not there: its slots no longer count either, though it may be
-- long until the task is known to be lost.
local function count_free(admission)
  local slots = redis.call('HGETALL', capacity_key())
  for i = 1, #slots, 2 do admission.slots[slots[i]] = slots[i + 1] end
  admission.free = tonumber(admission.slots['*'] or 0)
  for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
    local taken = redis.call('ZCOUNT', leases_key(queue), '(' .. admission.now, '+inf')
    admission.taken[queue] = taken
    admission.free = admission.free - taken
  end
end

-- Say why a queue may not dispatch one more task now; nil if it may. `admission` gathers when to
-- come back where only time is in the way.
local function why_closed(queue, admission)
  local state = redis.call('HMGET', queue_key(queue), 'paused', 'max_concurrency',
                           'interval_ms', 'last_ms')
  if state[1] == '1' then return 'paused' end
  if state[2] and redis.call('ZCARD', leases_key(queue)) >= tonumber(state[2]) then
    return 'limit'
  end
  local slots = tonumber(admission.slots[queue] or 0)
  if slots == 0 then return 'unserved' end
  if (admission.taken[queue] or 0) >= slots or admission.free <= 0 then return 'busy' end
  -- GCRA with a burst of one (the generic cell rate algorithm): starts are spaced evenly, so
  -- that no window of time ever has more than its share.
  local wait_ms = (state[4] or 0) + (state[3] or 0) - admission.now
  if state[3] and wait_ms > 0 then
    admission.retry_ms = math.min(admission.retry_ms, wait_ms)
    return 'rate'
  end
end

-- Put a task's Celery message into its queue. The run's template (clinvk/broker/message.py) has
-- placeholders like @INDEX@.
local function publish(run, index, dispatch, queue)
  local template = redis.call('GET', message_key(run))
  if not template then error('the message template is gone') end
  if template == '' then return end  -- a run that only tests the store
  local values = {INDEX = index, DISPATCH = dispatch, QUEUE = queue,
                  LEASE = lease_name(run, index, dispatch)}
  local message = string.gsub(template, '@(%u+)@', values)
  write({'LPOP', queue}, 'LPUSH', queue, message)
end

-- Take the task at the head of a run's pending list.
local function take_pending(run, queue)
  local key = pending_key(run, queue)
  local index = redis.call('LPOP', key)
  note_undo('PEXPIRE', key, record_of(run).lifetime_ms or DAY_MS)
  note_undo('LPUSH', key, index)  -- comes first: the newest is taken back first
  increment(queue_key(queue), 'waiting', -1)
  return index
end

-- Take the next turn of a queue, and the run's next place in its order.
local function take_turn(run, queue, admission)
  local turn = write(nil, 'HINCRBY', queue_key(queue), 'turn', 1)
  write(nil, 'HSET', queue_key(queue), 'last_ms', integer(admission.now))
  write(nil, 'HSET', run_key(run), 'turn:' .. queue, integer(turn))
  local record = record_of(run)
  if redis.call('HLEN', in_flight_key(run)) >= record.max_parallel then
    leave_fair_queues(run)  -- until one of its tasks ends
  elseif redis.call('EXISTS', pending_key(run, queue)) == 0 then
    leave_fair_queue(run, queue)
  else
    write(nil, 'ZADD', fair_queue_key(queue), 'XX', turn - record.priority * 1e12, run)
  end
end

-- Dispatch the task at the head of a run's pending list: lease it and publish it.
local function dispatch_task(run, queue, admission)
  local index = take_pending(run, queue)
  local dispatch = integer(1 + (redis.call('HGET', dispatches_key(run), index) or 0))
  local lease = lease_name(run, index, dispatch)
  write({'HDEL', in_flight_key(run), index},
        'HSET', in_flight_key(run), index, dispatch .. ':d:' .. queue .. ':')
  keep(run, in_flight_key(run))
  write({'ZREM', leases_key(queue), lease},
        'ZADD', leases_key(queue), integer(admission.now + admission.claim_timeout_ms), lease)
  touch_shared(leases_key(queue))
  take_turn(run, queue, admission)
  publish(run, index, dispatch, queue)
  admission.dispatched[#admission.dispatched + 1] = {run, tonumber(index), tonumber(dispatch),
                                                     queue}
  admission.runs[run] = true
  admission.taken[queue] = (admission.taken[queue] or 0) + 1
  admission.free = admission.free - 1
end

-- Choose the queue to dispatch from: task order within a run, over its queues, where that takes
-- nobody else's turn.
local function first_of_run(run, queue, head, admission)
  local first, from = head, queue
  for _, other in ipairs(record_of(run).queues) do
    local other_head = tonumber(redis.call('LINDEX', pending_key(run, other), 0))
    if other_head and other_head < first
        and redis.call('ZRANGE', fair_queue_key(other), 0, 0)[1] == run
        and not why_closed(other, admission) then
      first, from = other_head, other
    end
  end
  return from
end

-- Dispatch the next task of a run that is first in its queue's order. A run whose record has expired,
-- or that has nothing pending, leaves the order.
local function dispatch_from(run, queue, admission)
  local head = tonumber(redis.call('LINDEX', pending_key(run, queue), 0))
  if redis.call('HGET', run_key(run), 'state') ~= 'running' or not head then
    write(nil, 'ZREM', fair_queue_key(queue), run)
    return
  end
  dispatch_task(run, first_of_run(run, queue, head, admission), admission)
end

-- A run that cannot be dispatched leaves the order, and is audited at the next look.
local function set_aside(run, queue, failure, admission)
  write(nil, 'ZREM', fair_queue_key(queue), run)
  write(nil, 'ZADD', active_key(), 0, run)
  touch_shared(active_key())
  admission.failures[#admission.failures + 1] = {run, failure}
end

-- Dispatch the next task of the queue's next run; false if no run can take one.
local function dispatch_next(queue, admission)
  while true do
    local run = redis.call('ZRANGE', fair_queue_key(queue), 0, 0)[1]
    if not run then
      write(nil, 'SREM', waiting_queues_key(), queue)
      return false
    end
    local before = #admission.dispatched
    local failure = attempt(function() dispatch_from(run, queue, admission) end)
    if failure then set_aside(run, queue, failure, admission) end
    if #admission.dispatched > before then return true end
  end
end

local function new_admission(claim_timeout_ms)
  return {now = now_ms(), claim_timeout_ms = tonumber(claim_timeout_ms), retry_ms = 3600000,
          dispatched = {}, runs = {}, slots = {}, taken = {}, free = 0, failures = {}}
end

-- Dispatch what the limit of each run, the limits of each queue and the fleet's free slots allow.
-- Returns {{{run, index, dispatch, queue}, ...}, milliseconds to come back, {{run, error}, ...}}.
local function admit(claim_timeout_ms)
  local admission = new_admission(claim_timeout_ms)
  local waiting = redis.call('SMEMBERS', waiting_queues_key())
  if #waiting > 0 then count_free(admission) end
  local progress = true
  while progress do
    progress = false
    for _, queue in ipairs(waiting) do
      if admission.free > 0 and not why_closed(queue, admission)
          and dispatch_next(queue, admission) then
        progress = true
      end
    end
  end
  for run in pairs(admission.runs) do touch_sometimes(run) end
  return {admission.dispatched, math.ceil(admission.retry_ms), admission.failures}
end
