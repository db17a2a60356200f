-- Loaded in front of every verb. The functions *_key come from clinvk/store/store.py, the only
-- place that knows how keys are named. Time is always the server's.
--
-- An entry of `out` reads "<dispatch>:<state>:<queue>:<claim>"; the state is
--   h  handed out: published; no worker has claimed it
--   r  running: a worker claimed it and holds its lease. The claim is "<owner>/<nonce>": which
--      worker process, and which call of it
-- Both have a lease in their queue's sorted set, so that its size is what the queue has out. A
-- lease with the score 0 was given up by its owner: the next reaper takes it.

local DAY_MS = 86400000
local SHARED_MS = 400 * DAY_MS

local time

-- The same for all of a script.
local function now_ms()
  time = time or redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lease_name(run, index, dispatch)
  return run .. ':' .. index .. ':' .. dispatch
end

local function parse_entry(entry)
  return string.match(entry or '', '^(%d+):(%a):([^:]+):?(.*)$')
end

local function parse_lease(name)
  return string.match(name, '^(.+):(%d+):(%d+)$')
end

local function is_owned_by(claim, owner)
  return string.sub(claim, 1, #owner + 1) == owner .. '/'
end

-- Redis refuses a script that begins with a write that could need memory when it is out of it,
-- and lets one go on that has written already. What records the end of something must always
-- go through, or the memory could never be freed.
local function even_without_memory()
  redis.call('PEXPIRE', queues_key(), SHARED_MS)
end

-- What of a run's record is written once, read once in a script. Empty where there is no run.
local records = {}

local function record_of(run)
  local record = records[run]
  if not record then
    local fields = redis.call('HMGET', run_key(run), 'queues', 'max_parallel', 'priority',
                              'lifetime_ms', 'fail_fast', 'max_attempts', 'steps',
                              'touched_ms')
    record = {queues = cjson.decode(fields[1] or '[]'), max_parallel = tonumber(fields[2] or 0),
              priority = tonumber(fields[3] or 0), lifetime_ms = fields[4],
              fail_fast = fields[5] == '1', max_attempts = tonumber(fields[6] or 0),
              steps = fields[7] and cjson.decode(fields[7]), touched_ms = tonumber(fields[8] or 0)}
    records[run] = record
  end
  return record
end

-- Lifetimes. Each key has one from the moment it is written. Those of a run start anew whenever
-- something happens to it, and at the latest a hundredth of them later.

-- Start the lifetime of a key of a run that was just written.
local function keep(run, key)
  redis.call('PEXPIRE', key, record_of(run).lifetime_ms or DAY_MS)
end

-- Keys that runs share outlive their last use by longer than the record of any run may.
local function touch_shared(key)
  redis.call('PEXPIRE', key, SHARED_MS)
end

-- Start the lifetime of all keys of a run anew.
local function touch(run)
  local record = record_of(run)
  local lifetime_ms = record.lifetime_ms
  if not lifetime_ms then return end
  record.touched_ms = now_ms()
  redis.call('HSET', run_key(run), 'touched_ms', record.touched_ms)
  for _, key in ipairs({run_key(run), specs_key(run), results_key(run), events_key(run),
                        out_key(run), dispatches_key(run), worker_losses_key(run), max_attempts_key(run),
                        message_key(run)}) do
    redis.call('PEXPIRE', key, lifetime_ms)
  end
  for _, queue in ipairs(record.queues) do
    redis.call('PEXPIRE', pending_key(run, queue), lifetime_ms)
    touch_shared(queue_key(queue))
  end
end

-- The same, where it was not done just now.
local function touch_sometimes(run)
  local record = record_of(run)
  if (now_ms() - record.touched_ms) * 100 > tonumber(record.lifetime_ms or 0) then touch(run) end
end

local function touch_queue(queue)
  touch_shared(leases_key(queue))
  touch_shared(ring_key(queue))
  touch_shared(queue_key(queue))
  touch_shared(queues_key())
  touch_shared(waiting_key())
end

-- Turns. A queue's ring orders the runs that could take a slot of it: by priority, then by how
-- long ago they last took one. A newcomer goes before the run that was served last.

local function enter_rings(run)
  local record = record_of(run)
  if redis.call('HLEN', out_key(run)) >= record.max_parallel then return end
  for _, queue in ipairs(record.queues) do
    if redis.call('EXISTS', pending_key(run, queue)) == 1 then
      local turn = redis.call('HGET', run_key(run), 'turn:' .. queue)
      turn = turn or tonumber(redis.call('HGET', queue_key(queue), 'turn') or 0) - 0.5
      redis.call('ZADD', ring_key(queue), 'NX', turn - record.priority * 1e12, run)
      redis.call('SADD', waiting_key(), queue)
      touch_shared(ring_key(queue))
      touch_shared(waiting_key())
    end
  end
end

local function leave_rings(run)
  for _, queue in ipairs(record_of(run).queues) do
    redis.call('ZREM', ring_key(queue), run)
  end
end

-- Find out how many slots workers that are there have, for each queue and in all, and how many are
-- taken. Where a lease is over, its owner is not there: its slots no longer count either, though it
-- may be long until the task is known to be lost.
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

-- Whether a queue may hand out one more task now. `admission` gathers when to come back where
-- only time is in the way.
local function is_open(queue, admission)
  local state = redis.call('HMGET', queue_key(queue), 'paused', 'max_concurrency',
                           'interval_ms', 'last_ms')
  if state[1] == '1' then return false end
  if state[2] and redis.call('ZCARD', leases_key(queue)) >= tonumber(state[2]) then
    return false
  end
  if (admission.taken[queue] or 0) >= tonumber(admission.slots[queue] or 0) then return false end
  -- GCRA with a burst of one (the generic cell rate algorithm): starts are spaced evenly, so
  -- that no window of time ever has more than its share.
  local wait_ms = (state[4] or 0) + (state[3] or 0) - admission.now
  if state[3] and wait_ms > 0 then
    admission.retry_ms = math.min(admission.retry_ms, wait_ms)
    return false
  end
  return true
end

-- Put a task's Celery message into its queue. The run's template (clinvk/broker/message.py) has
-- placeholders like @INDEX@.
local function publish(run, index, dispatch, queue)
  local template = redis.call('GET', message_key(run))
  if not template or template == '' then return end
  local values = {INDEX = index, DISPATCH = dispatch, QUEUE = queue,
                  LEASE = lease_name(run, index, dispatch)}
  local message = string.gsub(template, '@(%u+)@', values)
  redis.call('LPUSH', queue, message)
end

-- Hand out the task at the head of a run's pending list, and publish it.
local function hand(run, queue, admission)
  local record = record_of(run)
  local index = redis.call('LPOP', pending_key(run, queue))
  local dispatch = 1 + (tonumber(redis.call('HGET', dispatches_key(run), index)) or 0)
  redis.call('HSET', out_key(run), index, dispatch .. ':h:' .. queue .. ':')
  keep(run, out_key(run))
  redis.call('ZADD', leases_key(queue), admission.now + admission.claim_timeout_ms,
             lease_name(run, index, dispatch))
  touch_shared(leases_key(queue))
  local turn = redis.call('HINCRBY', queue_key(queue), 'turn', 1)
  redis.call('HINCRBY', queue_key(queue), 'waiting', -1)
  redis.call('HSET', queue_key(queue), 'last_ms', admission.now)
  redis.call('HSET', run_key(run), 'turn:' .. queue, turn)
  if redis.call('HLEN', out_key(run)) >= record.max_parallel then
    leave_rings(run)  -- until one of its tasks ends
  elseif redis.call('EXISTS', pending_key(run, queue)) == 0 then
    redis.call('ZREM', ring_key(queue), run)
  else
    redis.call('ZADD', ring_key(queue), 'XX', turn - record.priority * 1e12, run)
  end
  publish(run, index, dispatch, queue)
  admission.dispatched[#admission.dispatched + 1] = {run, tonumber(index), dispatch, queue}
  admission.runs[run] = true
  admission.taken[queue] = (admission.taken[queue] or 0) + 1
  admission.free = admission.free - 1
end

-- Hand out the next task of the queue's next run; false if no run can take one.
local function hand_next(queue, admission)
  while true do
    local run = redis.call('ZRANGE', ring_key(queue), 0, 0)[1]
    if not run then
      redis.call('SREM', waiting_key(), queue)
      return false
    end
    local head = tonumber(redis.call('LINDEX', pending_key(run, queue), 0))
    if redis.call('HGET', run_key(run), 'state') ~= 'running' or not head then
      redis.call('ZREM', ring_key(queue), run)  -- its record has expired
    else
      -- Task order within a run, over its queues, where that takes nobody else's turn.
      local first, from = head, queue
      for _, other in ipairs(record_of(run).queues) do
        local other_head = tonumber(redis.call('LINDEX', pending_key(run, other), 0))
        if other_head and other_head < first
            and redis.call('ZRANGE', ring_key(other), 0, 0)[1] == run
            and is_open(other, admission) then
          first, from = other_head, other
        end
      end
      hand(run, from, admission)
      return true
    end
  end
end

-- Let out what the window of each run, the limits of each queue and the fleet's free slots
-- allow. Returns {{{run, index, dispatch, queue}, ...}, milliseconds to come back}.
local function admit(claim_timeout_ms)
  local admission = {now = now_ms(), claim_timeout_ms = tonumber(claim_timeout_ms), retry_ms = 3600000,
                     dispatched = {}, runs = {}, slots = {}, taken = {}}
  local waiting = redis.call('SMEMBERS', waiting_key())
  if #waiting > 0 then count_free(admission) end
  local progress = true
  while progress do
    progress = false
    for _, queue in ipairs(waiting) do
      if admission.free > 0 and is_open(queue, admission) and hand_next(queue, admission) then
        progress = true
      end
    end
  end
  for run in pairs(admission.runs) do touch_sometimes(run) end
  return {admission.dispatched, admission.retry_ms}
end

-- Note that `count` more tasks of a run have their result; the last one makes it complete,
-- which the reaper watches in case the chord's body is lost.
local function settle(run, field, count)
  redis.call('HINCRBY', run_key(run), field, count)
  if redis.call('HINCRBY', run_key(run), 'remaining', -count) == 0 then
    redis.call('ZADD', complete_key(), now_ms(), run)
    touch_shared(complete_key())
  end
end

-- In an ordered run, the end of a task makes the next one pending.
local function let_follow(run, index)
  local steps = record_of(run).steps
  local queue = steps and steps[index + 2]
  if not queue then return end
  redis.call('RPUSH', pending_key(run, queue), index + 1)
  keep(run, pending_key(run, queue))
  redis.call('HINCRBY', queue_key(queue), 'waiting', 1)
end

-- Cancel a run: take back all that no worker has claimed, and mark the run so that workers
-- stop what they run of it. Returns {number taken back before they were published,
-- {index, ...} of those published and not claimed}.
local function cancel(run, reason)
  if redis.call('HGET', run_key(run), 'state') ~= 'running' then return {0, {}} end
  even_without_memory()
  redis.call('HSET', run_key(run), 'state', 'canceled', 'cancel_reason', reason)
  leave_rings(run)
  -- What has no result and is not out, whether it is pending or waits for another's end.
  local unpublished = redis.call('HGET', run_key(run), 'remaining')
                      - redis.call('HLEN', out_key(run))
  for _, queue in ipairs(record_of(run).queues) do
    local length = redis.call('LLEN', pending_key(run, queue))
    redis.call('DEL', pending_key(run, queue))
    redis.call('HINCRBY', queue_key(queue), 'waiting', -length)
  end
  local published = {}
  local out = redis.call('HGETALL', out_key(run))
  for i = 1, #out, 2 do
    local dispatch, state, queue = parse_entry(out[i + 1])
    if state == 'h' then
      redis.call('HDEL', out_key(run), out[i])
      redis.call('ZREM', leases_key(queue), lease_name(run, out[i], dispatch))
      published[#published + 1] = tonumber(out[i])
    end
  end
  redis.call('XADD', events_key(run), '*', 'kind', 'canceled')
  redis.call('XADD', signals_key(), 'MAXLEN', '~', 10000, '*', 'canceled', run)
  touch_shared(signals_key())
  if unpublished + #published > 0 then
    settle(run, 'canceled', unpublished + #published)
  end
  return {unpublished, published}
end

-- The fleet's slots: over all, and for each queue those of the workers that serve it.
local function count_capacity(now)
  redis.call('ZREMRANGEBYSCORE', workers_key(), '-inf', now)
  local slots = {['*'] = 0}
  for _, name in ipairs(redis.call('ZRANGE', workers_key(), 0, -1)) do
    local entry = redis.call('GET', worker_key(name))
    if entry then
      local worker = cjson.decode(entry)
      slots['*'] = slots['*'] + worker.slots
      for _, queue in ipairs(worker.queues) do
        slots[queue] = (slots[queue] or 0) + worker.slots
      end
    end
  end
  redis.call('DEL', capacity_key())
  for queue, count in pairs(slots) do
    redis.call('HSET', capacity_key(), queue, count)
  end
  touch_shared(capacity_key())
end
