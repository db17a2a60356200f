-- The ends of tasks and of runs.

-- Count `count` more tasks of a run that have their result; the last one makes it complete,
-- which the reaper watches in case the chord's body is lost.
local function record_completion(run, status, count)
  increment(run_key(run), status, count)
  if increment(run_key(run), 'remaining', -count) == 0 then
    write({'ZREM', complete_key(), run}, 'ZADD', complete_key(), integer(now_ms()), run)
    touch_shared(complete_key())
  end
end

-- In an ordered run, the end of a task makes the next one pending.
local function let_follow(run, index)
  local steps = record_of(run).steps
  local queue = steps and steps[index + 2]
  if queue then make_pending(run, queue, index + 1, 'RPUSH', 'RPOP') end
end

-- Take back what is dispatched and not claimed; returns {index, ...}.
local function take_back_dispatched(run)
  local indexes = {}
  local entries = redis.call('HGETALL', in_flight_key(run))
  for i = 1, #entries, 2 do
    local index, dispatch, state, queue = entries[i], parse_entry(entries[i + 1])
    if state == 'd' then
      write({'HSET', in_flight_key(run), index, entries[i + 1]},
            'HDEL', in_flight_key(run), index)
      give_back_reserved(run, index)
      remove_member(leases_key(queue), lease_name(run, index, dispatch))
      indexes[#indexes + 1] = tonumber(index)
    end
  end
  return indexes
end

-- Cancel a run: take back all that no worker has claimed, and mark the run so that workers
-- stop what they run of it. Returns {number taken back before they were published,
-- {index, ...} of those published and not claimed}.
local function cancel(run, reason)
  if redis.call('HGET', run_key(run), 'state') ~= 'running' then return {0, {}} end
  even_without_memory()
  -- What has no result and is not in flight, whether it is pending or waits for another's end.
  local unpublished = redis.call('HGET', run_key(run), 'remaining')
                      - redis.call('HLEN', in_flight_key(run))
  leave_fair_queues(run)
  write({'HSET', run_key(run), 'state', 'running'},
        'HSET', run_key(run), 'state', 'canceled')
  write({'HDEL', run_key(run), 'cancel_reason'},
        'HSET', run_key(run), 'cancel_reason', reason)
  discard_pending(run)
  local published = take_back_dispatched(run)
  add_event(run, 'kind', 'canceled')
  note_undo('XDEL', signals_key(), redis.call('XADD', signals_key(), 'MAXLEN', '~', 10000, '*',
                                              'canceled', run))
  touch_shared(signals_key())
  local never_began = unpublished + #published
  for status, count in pairs(give_back_earlier(run)) do
    record_completion(run, status, count)
    never_began = never_began - count
  end
  if never_began > 0 then record_completion(run, 'canceled', never_began) end
  return {unpublished, published}
end

-- End a run that has come to a budget, see came_to(). Returns as cancel() does.
local function end_at_budget(run)
  if not record_of(run).is_budgeted or redis.call('HGET', run_key(run), 'state') ~= 'running' then
    return {0, {}}
  end
  local whose = budgets().came_to(run)
  if not whose then return {0, {}} end
  set_field(run_key(run), 'budget_of', whose)
  return cancel(run, whose == 'unpriced' and 'unknown_cost' or 'budget')
end

-- Look at the runs that wait for a budget: each ends, or tries once more.
local function look_at_budgets()
  for _, run in ipairs(redis.call('SMEMBERS', at_budget_key())) do
    end_at_budget(run)
    if redis.call('HGET', run_key(run), 'state') == 'running' and record_of(run).waits_for_budget then
      enter_fair_queues(run)
    else
      write(nil, 'SREM', at_budget_key(), run)
    end
  end
end
