-- Turns. A queue's fair queue orders the runs that could take a slot of it: by priority, then by
-- how long ago they last took one. A newcomer goes before the run that was served last.

local function enter_fair_queues(run)
  local record = record_of(run)
  if redis.call('HLEN', in_flight_key(run)) >= record.max_parallel then return end
  for _, queue in ipairs(record.queues) do
    if redis.call('EXISTS', pending_key(run, queue)) == 1 then
      local turn = redis.call('HGET', run_key(run), 'turn:' .. queue)
      turn = turn or tonumber(redis.call('HGET', queue_key(queue), 'turn') or 0) - 0.5
      local key = fair_queue_key(queue)
      if redis.call('ZADD', key, 'NX', turn - record.priority * 1e12, run) == 1 then
        note_undo('ZREM', key, run)
      end
      write(nil, 'SADD', waiting_queues_key(), queue)  -- taken out by whoever finds it empty
      touch_shared(key)
      touch_shared(waiting_queues_key())
    end
  end
end

-- Leave one queue's order. What takes this back is to enter again, after everything else.
local function leave_fair_queue(run, queue)
  if write(nil, 'ZREM', fair_queue_key(queue), run) == 1 then rejoin[run] = true end
end

local function leave_fair_queues(run)
  for _, queue in ipairs(record_of(run).queues) do leave_fair_queue(run, queue) end
end

-- Let those runs go back that left, in a script that is taken back. One that waited for a budget had
-- left before: a reaper lets it try again.
local function rejoin_fair_queues()
  for run in pairs(rejoin) do
    pcall(function()
      local fields = redis.call('HMGET', run_key(run), 'state', 'waits_for_budget')
      if fields[1] == 'running' and not fields[2] then enter_fair_queues(run) end
    end)
  end
end

local RUNS_AT_ONCE, TASKS_AT_ONCE = 100, 500

-- Make those tasks of a run pending that were held until now.
local function end_holds_of(run, now)
  local due = redis.call('ZRANGEBYSCORE', held_key(run), '-inf', now, 'LIMIT', 0, TASKS_AT_ONCE)
  for i = #due, 1, -1 do  -- the first comes first
    local queue = queue_of_task(run, due[i])
    take_held(run, queue, due[i])
    make_pending(run, queue, due[i], 'LPUSH', 'LPOP')
  end
  local earliest = redis.call('ZRANGE', held_key(run), 0, 0, 'WITHSCORES')[2]
  local before = redis.call('ZSCORE', held_runs_key(), run)
  if earliest then
    write({'ZADD', held_runs_key(), before, run}, 'ZADD', held_runs_key(), earliest, run)
  else
    write({'ZADD', held_runs_key(), before, run}, 'ZREM', held_runs_key(), run)
  end
  if redis.call('HGET', run_key(run), 'state') == 'running' then enter_fair_queues(run) end
end

-- Take a task out of what waits in its queue, wherever it is there; returns whether it was.
local function take_waiting(run, queue, index)
  if redis.call('ZSCORE', held_key(run), index) then
    take_held(run, queue, index)
    return true
  end
  local pending = pending_key(run, queue)
  local position = redis.call('LPOS', pending, index)
  if not position then return false end
  local behind = redis.call('LINDEX', pending, position + 1)
  write(behind and {'LINSERT', pending, 'BEFORE', behind, index} or {'RPUSH', pending, index},
        'LREM', pending, 1, index)
  increment(queue_key(queue), 'waiting', -1)
  if redis.call('EXISTS', pending) == 0 then leave_fair_queue(run, queue) end
  return true
end

-- Make a task pending again whose message is in a queue: one that is taken all the same is stale.
local function unpublish(run, index, dispatch, queue, entry, waits_in)
  write({'HSET', in_flight_key(run), index, entry}, 'HDEL', in_flight_key(run), index)
  give_back_reserved(run, index)
  remove_member(leases_key(queue), lease_name(run, index, dispatch))
  set_field(dispatches_key(run), index, dispatch)
  keep(run, dispatches_key(run))
  make_pending(run, waits_in, index, 'LPUSH', 'LPOP')
  enter_fair_queues(run)
end

-- Make a task pending again that was dispatched through a queue and that nobody has claimed, unless it
-- is for another model than the one that is limited; returns whether it was.
local function take_back(queue, model, lease)
  local run, index, dispatch = parse_lease(lease)
  local entry = redis.call('HGET', in_flight_key(run), index)
  local current, state = parse_entry(entry)
  if current ~= dispatch or state ~= 'd' then return end
  local waits_in, asks_for = route_of_task(run, index)
  if not waits_in or (model ~= '' and model ~= asks_for) then return end
  local tries = tries_of(run, index)
  if not tries.is_new then
    tries.since_ms = now_ms()
    save_tries(run, index, tries)
  end
  unpublish(run, index, dispatch, queue, entry, waits_in)
end

-- Take back what was dispatched through a queue just before its gate was closed: no start may follow.
local function take_back_unclaimed(queue, model)
  local leases = redis.call('ZRANGE', leases_key(queue), 0, -1)
  local function index_of(lease) return tonumber(string.match(lease, ':(%d+):%d+$') or -1) end
  table.sort(leases, function(a, b) return index_of(a) > index_of(b) end)  -- the first comes first
  for _, lease in ipairs(leases) do
    attempt(function() take_back(queue, model, lease) end)
  end
end
