-- Tasks that wait: pending in their queue's list, or held until a time.

-- What waits of a run is not what it was: see expired_waits.lua.
local function note_waiting(run)
  if record_of(run).max_wait_ms then remove_field(run_key(run), 'looked_at') end
end

-- Make a task pending, at one end of its queue's list.
local function make_pending(run, queue, index, push, pop)
  local key = pending_key(run, queue)
  write({pop, key}, push, key, integer(index))
  keep(run, key)
  increment(queue_key(queue), 'waiting', 1)
  note_waiting(run)
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

-- Hold a task until a time. It counts as waiting in its queue.
local function hold_task(run, queue, index, due_ms)
  write({'ZREM', held_key(run), index}, 'ZADD', held_key(run), integer(due_ms), index)
  keep(run, held_key(run))
  local earliest = redis.call('ZSCORE', held_runs_key(), run)
  if not earliest or due_ms < tonumber(earliest) then
    write(earliest and {'ZADD', held_runs_key(), earliest, run} or {'ZREM', held_runs_key(), run},
          'ZADD', held_runs_key(), integer(due_ms), run)
    touch_shared(held_runs_key())
  end
  increment(queue_key(queue), 'waiting', 1)
  note_waiting(run)
end

-- Take a task out of those that are held.
local function take_held(run, queue, index)
  remove_member(held_key(run), index)
  increment(queue_key(queue), 'waiting', -1)
end

-- Take all that waits of a run out of its queues.
local function discard_pending(run)
  for _, queue in ipairs(record_of(run).queues) do
    local length = redis.call('LLEN', pending_key(run, queue))
    if length > 0 then
      discard(pending_key(run, queue))
      increment(queue_key(queue), 'waiting', -length)
    end
  end
  for _, index in ipairs(redis.call('ZRANGE', held_key(run), 0, -1)) do
    local queue = queue_of_task(run, index)
    if queue then increment(queue_key(queue), 'waiting', -1) end
  end
  discard(held_key(run))
  remove_member(held_runs_key(), run)
end
