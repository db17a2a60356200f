-- Admission: which tasks are dispatched next. A task is dispatched while its run has fewer than
-- max_parallel in flight, its queue fewer than its limit, and the fleet a free slot that serves it.

-- How often to look whether a worker is back, and after how long it counts as gone for good.
local WORKER_LOOK_MS, WORKER_GONE_MS = 5000, 300000

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

-- Take note of a time to come back, where only time is in the way.
local function come_back(admission, wait_ms)
  if wait_ms > 0 then admission.retry_ms = math.min(admission.retry_ms, wait_ms) end
end

-- Slow start: beyond SLOW_START tasks in flight, those of a queue without any limit, set or learned, at
-- most double every DOUBLING_MS. So a provider that allows less refuses some of them, and not as many as
-- the fleet has slots. What the queue has risen to is forgotten after RISE_KEPT_MS.
-- The queue's field `rise`: how many may be in flight, and since when (ms).
local SLOW_START, DOUBLING_MS, RISE_KEPT_MS = 32, 2000, 600000

-- Return for how long (ms) a queue starts no more tasks, so that it rises slowly; 0 where it may go on.
local function rise_wait(queue, admission, rise)
  local in_flight = admission.taken[queue] or 0
  admission.rises[queue] = nil
  if in_flight < SLOW_START - 1 then return 0 end
  local most, since_ms = string.match(rise or '', '^(%d+):(%d+)$')
  local age_ms = admission.now - (since_ms or 0)
  if age_ms < 0 or age_ms >= RISE_KEPT_MS then  -- another server, whose clock is behind, took over
    most = math.max(SLOW_START, in_flight + 1)
  elseif in_flight < tonumber(most) then
    return 0
  elseif age_ms < DOUBLING_MS then
    return DOUBLING_MS - age_ms
  else
    most = 2 * in_flight
  end
  admission.rises[queue] = integer(most) .. ':' .. integer(admission.now)
  return 0
end

-- Say why one queue may not dispatch one more task now; nil if it may.
local function why_queue_closed(queue, admission)
  local state = redis.call('HMGET', queue_key(queue), 'paused', 'max_concurrency',
                           'interval_ms', 'last_ms', 'gate', 'paused_until', 'limited_ms',
                           'model_gates', 'rise')
  admission.was_limited[queue] = state[5] or state[7]
  admission.has_model_gates[queue] = state[8]
  if state[1] == '1' then
    local wait_ms = state[6] and state[6] - admission.now
    if not wait_ms then return 'paused' end
    if wait_ms > 0 then
      come_back(admission, wait_ms)
      return 'paused'
    end
  end
  local in_flight = (state[2] or state[5]) and redis.call('ZCARD', leases_key(queue))
  if state[2] and in_flight >= tonumber(state[2]) then return 'limit' end
  if state[5] then
    local is_shut, wait_ms = is_gated(queue, gate_of(queue, ''), in_flight)
    if is_shut then
      come_back(admission, wait_ms)
      return 'limited'
    end
  end
  local slots = tonumber(admission.slots[queue] or 0)
  if slots == 0 then return 'unserved' end
  if (admission.taken[queue] or 0) >= slots or admission.free <= 0 then return 'busy' end
  if not (state[2] or state[5]) then
    local rise_ms = rise_wait(queue, admission, state[9])
    if rise_ms > 0 then
      come_back(admission, rise_ms)
      return 'rising'
    end
  end
  -- GCRA with a burst of one (the generic cell rate algorithm): starts are spaced evenly, so
  -- that no window of time ever has more than its share.
  local wait_ms = (state[4] or 0) + (state[3] or 0) - admission.now
  if state[3] and wait_ms > 0 then
    come_back(admission, wait_ms)
    return 'rate'
  end
end

-- Choose the queue through which a task of this queue is dispatched. "clinvk.a|b" is where tasks
-- wait that either backend may run: of the open ones, the one with the most free slots. Returns
-- nil, and why the first is closed, where all are. To a run that requires something, a queue is closed
-- as well where no worker that meets that has a free slot; the last value is the one that has most.
local function choose_queue(queue, admission, run)
  local required, worker = run and record_of(run).requires, nil
  local function why_one_closed(name)
    local reason = why_queue_closed(name, admission)
    if not required or (reason and reason ~= 'busy') then return reason end
    local unfit
    worker, unfit = requirements().choose(run, name, admission)
    return unfit == 'unmet' and unfit or reason or unfit
  end
  if not string.find(queue, '|', 1, true) then
    local reason = why_one_closed(queue)
    return not reason and queue or nil, reason, worker
  end
  local best, most, first_reason, best_worker
  for name in string.gmatch(string.sub(queue, 8), '[^|]+') do
    local other = 'clinvk.' .. name
    local reason = why_one_closed(other)
    first_reason = first_reason or reason
    local free = tonumber(admission.slots[other] or 0) - (admission.taken[other] or 0)
    if not reason and free > (most or -1) then best, most, best_worker = other, free, worker end
  end
  return best, first_reason, best_worker
end

-- Say why a queue may not dispatch one more task now, be it of one run; nil if it may.
local function why_closed(queue, admission, run)
  local chosen, reason = choose_queue(queue, admission, run)
  if not chosen then return reason end
end

-- Put a task's Celery message into its queue, or with a `worker` into that worker's own. The run's
-- template (clinvk/broker/message.py) has placeholders like @INDEX@.
local function publish(run, index, dispatch, queue, worker)
  local template = redis.call('GET', message_key(run))
  if not template then error('the message template is gone') end
  if template == '' then return end  -- a run that only tests the store
  local values = {INDEX = index, DISPATCH = dispatch, QUEUE = queue,
                  LEASE = lease_name(run, index, dispatch)}
  local message = string.gsub(template, '@(%u+)@', values)
  local list = worker and worker_queue(worker) or queue
  write({'LPOP', list}, 'LPUSH', list, message)
end

-- Take the next turn of a queue, and the run's next place in its order. `chosen` is the queue that
-- the task is dispatched through.
local function take_turn(run, queue, chosen, admission)
  local turn = write(nil, 'HINCRBY', queue_key(queue), 'turn', 1)
  write(nil, 'HSET', queue_key(chosen), 'last_ms', integer(admission.now))
  if chosen ~= queue then touch_shared(queue_key(chosen)) end
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

-- Where a model's gate is closed, hold the task at the head of a list that is for this model.
-- Returns whether it was.
local function hold_for_model(run, queue, chosen, admission)
  if not admission.has_model_gates[chosen] then return false end
  local index = redis.call('LINDEX', pending_key(run, queue), 0)
  local _, model = route_of_task(run, index)
  local gate = model ~= '' and gate_of(chosen, model)
  local is_shut, wait_ms = false, 0
  if gate then is_shut, wait_ms = is_gated(chosen, gate, 0) end
  if not is_shut then return false end
  local tries = tries_of(run, index)
  if tries.since_ms == 0 then
    tries.waited_ms, tries.since_ms = held_up_ms(run, queue, tries), admission.now
    save_tries(run, index, tries)
  end
  take_pending(run, queue)
  hold_task(run, queue, index, admission.now + math.max(wait_ms, PROBE_LOOK_MS))
  admission.held = admission.held + 1
  return true
end

-- Whether a worker can go on with a task of a run, whose session it has.
local function can_go_on(worker, run, chosen)
  if not takes_its_own(worker) then return false end
  return not record_of(run).requires or requirements().may_run(run, chosen, worker)
end

-- Where the only worker that can go on with the task at the head of a list is not there, hold the task
-- for a while: a worker that is restarted has its name again. Returns whether it was.
local function hold_for_worker(run, queue, chosen, admission)
  if not record_of(run).has_tries then return false end
  local index = redis.call('LINDEX', pending_key(run, queue), 0)
  local tries = tries_of(run, index)
  if not tries.worker or can_go_on(tries.worker, run, chosen) then return false end
  tries.missing_ms = tries.missing_ms or admission.now
  if admission.now - tries.missing_ms >= WORKER_GONE_MS then return false end
  save_tries(run, index, tries)
  take_pending(run, queue)
  hold_task(run, queue, index, admission.now + WORKER_LOOK_MS)
  admission.held = admission.held + 1
  return true
end

-- Let a run whose next task of a queue goes over a budget wait: for an end of what runs, or until a
-- reaper finds that there is room again, or that the run has to end.
local function wait_for_budget(run, queue)
  remove_member(fair_queue_key(queue), run)
  set_field(run_key(run), 'waits_for_budget', '1')
  record_of(run).waits_for_budget = true
  write(nil, 'SADD', at_budget_key(), run)
  touch_shared(at_budget_key())
end

-- Return the worker whose own queue a task is put into: the one that can go on with it, else the one
-- that was chosen because of what its run requires; nil for any.
local function worker_for(run, index, chosen, suitable)
  local pinned = record_of(run).has_tries and tries_of(run, index).worker
  if pinned and can_go_on(pinned, run, chosen) then return {name = pinned} end
  return suitable
end

-- Dispatch the task at the head of a run's pending list: lease it and publish it. `amounts` are what
-- it reserves of budgets, if any concerns it, and `suitable` is a worker that meets what is required.
local function dispatch_task(run, queue, chosen, admission, amounts, suitable)
  local index = take_pending(run, queue)
  local worker = worker_for(run, index, chosen, suitable)
  if amounts then budgets().reserve(run, chosen, index, amounts) end
  local dispatch = integer(1 + (redis.call('HGET', dispatches_key(run), index) or 0))
  local lease = lease_name(run, index, dispatch)
  write({'HDEL', in_flight_key(run), index},
        'HSET', in_flight_key(run), index,
        dispatch .. ':d:' .. chosen .. '::' .. (worker and worker.name or ''))
  keep(run, in_flight_key(run))
  write({'ZREM', leases_key(chosen), lease},
        'ZADD', leases_key(chosen), integer(admission.now + admission.claim_timeout_ms), lease)
  touch_shared(leases_key(chosen))
  if admission.rises[chosen] then set_field(queue_key(chosen), 'rise', admission.rises[chosen]) end
  take_turn(run, queue, chosen, admission)
  if record_of(run).has_tries or admission.was_limited[chosen] then
    end_wait(run, queue, index)
    note_start(chosen, '', lease)
  end
  if admission.has_model_gates[chosen] then
    local _, model = route_of_task(run, index)
    if model ~= '' then note_start(chosen, model, lease) end
  end
  publish(run, index, dispatch, chosen, worker and worker.name)
  if worker and worker.free then worker.free = worker.free - 1 end
  admission.dispatched[#admission.dispatched + 1] = {run, tonumber(index), tonumber(dispatch),
                                                     chosen}
  admission.runs[run] = true
  admission.taken[chosen] = (admission.taken[chosen] or 0) + 1
  admission.free = admission.free - 1
end

-- Return the run that is next in a queue's order, without those that are passed over.
local function next_in_turn(queue, admission)
  local passed = admission.passed[queue]
  if not passed then return redis.call('ZRANGE', fair_queue_key(queue), 0, 0)[1] end
  for _, run in ipairs(redis.call('ZRANGE', fair_queue_key(queue), 0, passed.count)) do
    if not passed.runs[run] then return run end
  end
end

-- Pass over a run, for the rest of this script: no worker that meets what it requires has a free slot.
-- It keeps its turn, so it comes first where one of them has.
local function pass_over(run, queue, admission)
  local passed = admission.passed[queue] or {count = 0, runs = {}}
  passed.count, passed.runs[run] = passed.count + 1, true
  admission.passed[queue] = passed
end

-- Choose the queue to dispatch from: task order within a run, over its queues, where that takes
-- nobody else's turn.
local function first_of_run(run, queue, head, admission)
  local first, from = head, queue
  for _, other in ipairs(record_of(run).queues) do
    local other_head = other ~= queue and tonumber(redis.call('LINDEX', pending_key(run, other), 0))
    if other_head and other_head < first
        and next_in_turn(other, admission) == run
        and not why_closed(other, admission) then
      first, from = other_head, other
    end
  end
  return from
end

-- Dispatch the next task of a run that is first in its queue's order; `chosen` is what choose_queue()
-- gives for the queue. A run whose record has expired, or that has nothing pending, leaves the order.
local function dispatch_from(run, queue, chosen, admission)
  local head = tonumber(redis.call('LINDEX', pending_key(run, queue), 0))
  if redis.call('HGET', run_key(run), 'state') ~= 'running' or not head then
    write(nil, 'ZREM', fair_queue_key(queue), run)
    return
  end
  local from = first_of_run(run, queue, head, admission)
  local suitable
  if from ~= queue or record_of(run).requires then
    local _
    chosen, _, suitable = choose_queue(from, admission, run)
    if not chosen then return pass_over(run, from, admission) end
  end
  local amounts
  if record_of(run).is_budgeted then
    amounts = budgets().affordable(run, chosen, redis.call('LINDEX', pending_key(run, from), 0))
    if not amounts then return wait_for_budget(run, from) end
  end
  if not (hold_for_model(run, from, chosen, admission) or hold_for_worker(run, from, chosen, admission)) then
    dispatch_task(run, from, chosen, admission, amounts, suitable)
  elseif redis.call('EXISTS', pending_key(run, from)) == 0 then
    leave_fair_queue(run, from)
  end
end

-- A run that cannot be dispatched leaves the order, and is audited at the next look.
local function set_aside(run, queue, failure, admission)
  write(nil, 'ZREM', fair_queue_key(queue), run)
  write(nil, 'ZADD', active_key(), 0, run)
  touch_shared(active_key())
  admission.failures[#admission.failures + 1] = {run, failure}
end

-- Dispatch the next task of the queue's next run, through the chosen queue; false if no run can take
-- one.
local function dispatch_next(queue, chosen, admission)
  while true do
    local run = next_in_turn(queue, admission)
    if not run then
      if not admission.passed[queue] then write(nil, 'SREM', waiting_queues_key(), queue) end
      return false
    end
    local before = #admission.dispatched
    local failure = attempt(function() dispatch_from(run, queue, chosen, admission) end)
    if failure then set_aside(run, queue, failure, admission) end
    if #admission.dispatched > before then return true end
    if admission.held >= TASKS_AT_ONCE then
      come_back(admission, 1)
      return false
    end
  end
end

local function new_admission(claim_timeout_ms)
  return {now = now_ms(), claim_timeout_ms = tonumber(claim_timeout_ms), retry_ms = 3600000,
          dispatched = {}, runs = {}, slots = {}, taken = {}, free = 0, held = 0, passed = {},
          was_limited = {}, has_model_gates = {}, rises = {}, failures = {}}
end

-- Make tasks pending that were held until now.
local function end_holds(admission)
  local first = redis.call('ZRANGE', held_runs_key(), 0, 0, 'WITHSCORES')
  if not first[2] then return end
  for _, run in ipairs(redis.call('ZRANGEBYSCORE', held_runs_key(), '-inf', admission.now,
                                  'LIMIT', 0, RUNS_AT_ONCE)) do
    local failure = attempt(function() end_holds_of(run, admission.now) end)
    if failure then
      write(nil, 'ZREM', held_runs_key(), run)
      admission.failures[#admission.failures + 1] = {run, failure}
    end
  end
  first = redis.call('ZRANGE', held_runs_key(), 0, 0, 'WITHSCORES')
  if first[2] then come_back(admission, math.max(1, first[2] - admission.now)) end
end

-- Dispatch what the limit of each run, the limits of each queue and the fleet's free slots allow.
-- Returns {{{run, index, dispatch, queue}, ...}, milliseconds to come back, {{run, error}, ...}}.
local function admit(claim_timeout_ms)
  local admission = new_admission(claim_timeout_ms)
  end_holds(admission)
  local waiting = redis.call('SMEMBERS', waiting_queues_key())
  if #waiting > 0 then count_free(admission) end
  local progress = true
  while progress do
    progress = false
    for _, queue in ipairs(waiting) do
      local chosen = admission.free > 0 and choose_queue(queue, admission)
      if chosen and dispatch_next(queue, chosen, admission) then progress = true end
    end
  end
  for run in pairs(admission.runs) do touch_sometimes(run) end
  return {admission.dispatched, math.ceil(admission.retry_ms), admission.failures}
end
