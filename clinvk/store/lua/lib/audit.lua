-- The audit of a run: whether its keys agree with each other. Every operation is atomic and all or
-- nothing, so they always should; a server that lost some writes, a bug, or a hand in the data can
-- still make a run that nothing would ever end. What is wrong is repaired from what is there, by one
-- rule: a result counts, a task in flight is left to the reaper, and any other task of a running run
-- is pending, of a canceled one canceled.

local KINDS = {run = 'hash', in_flight = 'hash', results = 'hash', specs = 'hash',
               dispatches = 'hash', worker_losses = 'hash', max_attempts = 'hash',
               message = 'string', events = 'stream', pending = 'list', steps = 'hash',
               step_order = 'zset', step_counts = 'hash', earlier_results = 'hash',
               ledger = 'hash', reserved = 'hash'}
local CAN_GO = {events = true, worker_losses = true, max_attempts = true, steps = true,
                step_order = true, step_counts = true, earlier_results = true,
                ledger = true, reserved = true}
local STATUSES = {'ok', 'failed', 'canceled', 'timeout', 'lost'}
local PAGE = 500

local function note_repair(audit, text)
  audit.repairs[#audit.repairs + 1] = text
end

-- Remove keys of a run that hold another type than they should. Without its tasks, results or
-- dispatches, nobody could say what has run: then the run has to be canceled.
local function check_types(run, audit)
  local names = {in_flight = in_flight_key(run), results = results_key(run),
                 specs = specs_key(run), dispatches = dispatches_key(run),
                 worker_losses = worker_losses_key(run), max_attempts = max_attempts_key(run),
                 message = message_key(run), events = events_key(run), steps = steps_key(run),
                 step_order = step_order_key(run), step_counts = step_counts_key(run),
                 earlier_results = earlier_results_key(run), ledger = ledger_key(run),
                 reserved = reserved_key(run)}
  for name, key in pairs(names) do
    local kind = redis.call('TYPE', key).ok
    if kind ~= 'none' and kind ~= KINDS[name] then
      discard(key)
      note_repair(audit, name .. ' was a ' .. kind)
      audit.is_damaged = audit.is_damaged or not CAN_GO[name]
    elseif kind == 'none' and audit.state == 'running'
        and (name == 'specs' or name == 'message') then
      note_repair(audit, name .. ' is gone')
      audit.is_damaged = true
    end
  end
  for _, queue in ipairs(record_of(run).queues) do
    local kind = redis.call('TYPE', pending_key(run, queue)).ok
    if kind ~= 'none' and kind ~= 'list' then
      discard(pending_key(run, queue))
      note_repair(audit, 'pending was a ' .. kind)
    end
  end
end

-- Take out of `in_flight` what cannot be there, and give each of the others its lease.
local function check_in_flight(run, audit)
  local entries = redis.call('HGETALL', in_flight_key(run))
  for i = 1, #entries, 2 do
    local index, dispatch, state, queue = entries[i], parse_entry(entries[i + 1])
    local has_result = redis.call('HEXISTS', results_key(run), index) == 1
    if not state or has_result or (state == 'd' and audit.state == 'canceled') then
      write({'HSET', in_flight_key(run), index, entries[i + 1]},
            'HDEL', in_flight_key(run), index)
      if queue then remove_member(leases_key(queue), lease_name(run, index, dispatch)) end
      note_repair(audit, 'task ' .. index .. ' was in flight, which it cannot be')
    elseif not redis.call('ZSCORE', leases_key(queue), lease_name(run, index, dispatch)) then
      local lease = lease_name(run, index, dispatch)
      write({'ZREM', leases_key(queue), lease},
            'ZADD', leases_key(queue), integer(now_ms()), lease)
      touch_shared(leases_key(queue))
      note_repair(audit, 'task ' .. index .. ' was in flight without a lease')
    end
  end
end

-- Only what is in flight has reserved anything, and a run has spent what its ledger says.
local function check_budget(run, audit)
  if not record_of(run).is_budgeted then return end
  local entries = redis.call('HGETALL', reserved_key(run))
  local sums = {cost = 0, tokens = 0}
  for i = 1, #entries, 2 do
    local cost, tokens = string.match(entries[i + 1], '^(%d+):(%d+):')
    if cost and redis.call('HEXISTS', in_flight_key(run), entries[i]) == 1 then
      sums.cost, sums.tokens = sums.cost + cost, sums.tokens + tokens
    elseif not sums[entries[i]] then
      remove_field(reserved_key(run), entries[i])
      note_repair(audit, 'task ' .. entries[i] .. ' had reserved something, and was not in flight')
    end
  end
  for unit, sum in pairs(sums) do
    if tonumber(redis.call('HGET', reserved_key(run), unit) or 0) ~= sum then
      set_field(reserved_key(run), unit, integer(sum))
      keep(run, reserved_key(run))
      note_repair(audit, 'the ' .. unit .. ' that is reserved was not the sum')
    end
  end
  local has_own = record_of(run).max_cost or record_of(run).max_tokens
  if has_own and budgets().recount_spent(run) then
    note_repair(audit, 'what was spent was not what its ledger says')
  end
end

local function count_pending(run)
  local count = 0
  for _, queue in ipairs(record_of(run).queues) do
    count = count + redis.call('LLEN', pending_key(run, queue))
  end
  return count + redis.call('ZCARD', held_key(run))
end

-- Make pending again what has no result and is not in flight; of an ordered run only the first.
local function rebuild_pending(run)
  discard_pending(run)
  local record = record_of(run)
  for index = 0, record.total - 1 do
    if redis.call('HEXISTS', results_key(run), index) == 0 then
      if redis.call('HEXISTS', in_flight_key(run), index) == 0 then
        make_pending(run, queue_of_task(run, index), index, 'RPUSH', 'RPOP')
      end
      if record.steps then return end
    end
  end
end

local function check_pending(run, audit)
  local pending = count_pending(run)
  if audit.state == 'canceled' then
    if pending > 0 then
      discard_pending(run)
      note_repair(audit, pending .. ' tasks were pending in a canceled run')
    end
    return
  end
  local elsewhere = redis.call('HLEN', results_key(run)) + redis.call('HLEN', in_flight_key(run))
  local expected = record_of(run).total - elsewhere
  if record_of(run).steps then
    expected = (expected > 0 and redis.call('HLEN', in_flight_key(run)) == 0) and 1 or 0
  end
  if pending ~= expected then
    rebuild_pending(run)
    note_repair(audit, pending .. ' tasks were pending instead of ' .. expected)
  end
end

-- Count how the tasks ended, from their results.
local function count_statuses(run)
  local counts = {}
  for first = 0, record_of(run).total - 1, PAGE do
    local indexes = {}
    for index = first, math.min(first + PAGE, record_of(run).total) - 1 do
      indexes[#indexes + 1] = index
    end
    for _, result in ipairs(redis.call('HMGET', results_key(run), unpack(indexes))) do
      if result then
        local status = cjson.decode(result).status
        counts[status] = (counts[status] or 0) + 1
      end
    end
  end
  return counts
end

-- Hold the counters against what is there.
local function check_counters(run, audit)
  local total, results = record_of(run).total, redis.call('HLEN', results_key(run))
  local remaining = total - results
  if audit.state == 'canceled' then remaining = redis.call('HLEN', in_flight_key(run)) end
  local fields = redis.call('HMGET', run_key(run), 'remaining', unpack(STATUSES))
  local sum = 0
  for i = 2, #fields do sum = sum + (tonumber(fields[i] or 0) or 0) end
  if tonumber(fields[1] or '') == remaining and sum + remaining == total then return end
  note_repair(audit, (fields[1] or 'no') .. ' tasks remained instead of ' .. remaining)
  local counts = count_statuses(run)
  counts.canceled = (counts.canceled or 0) + total - results - remaining
  set_field(run_key(run), 'remaining', integer(remaining))
  for _, status in ipairs(STATUSES) do
    set_field(run_key(run), status, integer(counts[status] or 0))
  end
end

local function check_completion(run, audit)
  if redis.call('HGET', run_key(run), 'remaining') ~= '0' then return end
  if redis.call('ZSCORE', complete_key(), run) then return end
  write({'ZREM', complete_key(), run}, 'ZADD', complete_key(), integer(now_ms()), run)
  touch_shared(complete_key())
  note_repair(audit, 'it was complete, and nobody was to close it')
end

-- A run that could take a slot has a turn in each of its queues.
local function check_turns(run, audit)
  if audit.state ~= 'running' then return end
  local record = record_of(run)
  if redis.call('HLEN', in_flight_key(run)) >= record.max_parallel then return end
  if record.waits_for_budget then return enter_fair_queues(run) end
  for _, queue in ipairs(record.queues) do
    if redis.call('EXISTS', pending_key(run, queue)) == 1
        and (not redis.call('ZSCORE', fair_queue_key(queue), run)
             or redis.call('SISMEMBER', waiting_queues_key(), queue) == 0) then
      note_repair(audit, 'tasks were pending without a turn in ' .. queue)
    end
  end
  enter_fair_queues(run)
end

-- Say why a run's record cannot be used; nil if it can.
local function what_is_unusable(run)
  local kind = redis.call('TYPE', run_key(run)).ok
  if kind ~= 'hash' then return 'its record was a ' .. kind end
  local fields = redis.call('HMGET', run_key(run), 'total', 'max_parallel', 'queues')
  if not tonumber(fields[1] or '') or not tonumber(fields[2] or '') or not fields[3] then
    return 'its record was incomplete'
  end
end

-- A run without a usable record is removed: its clients are told that it is gone.
local function remove_run(run)
  discard(run_key(run))
  remove_member(active_key(), run)
  remove_member(complete_key(), run)
end

-- Audit one run and repair it. Returns what was wrong, or nil.
local function audit_run(run)
  if redis.call('EXISTS', run_key(run)) == 0 then
    remove_member(active_key(), run)
    return nil
  end
  local unusable = what_is_unusable(run)
  if unusable then
    remove_run(run)
    return unusable .. ', so it was removed'
  end
  local audit = {repairs = {}, state = redis.call('HGET', run_key(run), 'state')}
  if audit.state ~= 'running' and audit.state ~= 'canceled' then
    remove_member(active_key(), run)
    return nil
  end
  check_types(run, audit)
  if audit.is_damaged and audit.state == 'running' then
    leave_fair_queues(run)
    set_field(run_key(run), 'state', 'canceled')
    set_field(run_key(run), 'cancel_reason', 'damaged')
    add_event(run, 'kind', 'canceled')
    note_undo('XDEL', signals_key(), redis.call('XADD', signals_key(), '*', 'canceled', run))
    touch_shared(signals_key())
    audit.state = 'canceled'
  end
  check_in_flight(run, audit)
  check_budget(run, audit)
  if audit.state == 'canceled' then give_back_earlier(run) end
  check_pending(run, audit)
  check_counters(run, audit)
  check_completion(run, audit)
  check_turns(run, audit)
  if #audit.repairs == 0 then return nil end
  local text = table.concat(audit.repairs, '; ')
  add_event(run, 'kind', 'repaired', 'why', text)
  touch(run)
  return text
end

-- Hold each queue's count of waiting tasks against the lists of its runs. Where some are held, the
-- count is left alone: which queue each of them is for stands in its spec.
local function audit_queues()
  local waiting, has_held = {}, {}
  for _, run in ipairs(redis.call('ZRANGE', active_key(), 0, -1)) do
    pcall(function()
      for _, queue in ipairs(record_of(run).queues) do
        waiting[queue] = (waiting[queue] or 0) + redis.call('LLEN', pending_key(run, queue))
        has_held[queue] = has_held[queue] or redis.call('EXISTS', held_key(run)) == 1
      end
    end)
  end
  for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
    local count = integer(waiting[queue] or 0)
    if not has_held[queue]
        and (redis.call('HGET', queue_key(queue), 'waiting') or '0') ~= count then
      set_field(queue_key(queue), 'waiting', count)
      touch_shared(queue_key(queue))
    end
  end
end

-- Let what is reserved of budgets of the day be the sum of what runs have reserved.
local function audit_reserved()
  local fields = redis.call('HGETALL', all_reserved_key())
  if #fields == 0 then return end
  local sums = {}
  for _, run in ipairs(redis.call('ZRANGE', active_key(), 0, -1)) do
    pcall(function()
      if not record_of(run).is_budgeted then return end
      for _, entry in ipairs(redis.call('HVALS', reserved_key(run))) do
        local cost, tokens, queue = string.match(entry, '^(%d+):(%d+):(.+)$')
        for _, scope in ipairs(cost and budgets().scopes_of(run, queue) or {}) do
          sums[scope .. ' cost'] = (sums[scope .. ' cost'] or 0) + cost
          sums[scope .. ' tokens'] = (sums[scope .. ' tokens'] or 0) + tokens
        end
      end
    end)
  end
  for i = 1, #fields, 2 do sums[fields[i]] = sums[fields[i]] or 0 end
  for field, sum in pairs(sums) do
    if (redis.call('HGET', all_reserved_key(), field) or '0') ~= integer(sum) then
      set_field(all_reserved_key(), field, integer(sum))
      touch_shared(all_reserved_key())
    end
  end
end

-- Audit the runs whose last audit is `interval_ms` ago, at most `limit`, so that a fleet shares the
-- work. Returns {{run, what was wrong}, ...}; what could not be audited is added to `failures`.
local function audit_runs(interval_ms, limit, failures)
  local repaired = {}
  local now = now_ms()
  local due = redis.call('ZRANGEBYSCORE', active_key(), '-inf', now - interval_ms,
                         'LIMIT', 0, limit)
  for _, run in ipairs(due) do
    local text
    local failure = attempt(function() text = audit_run(run) end)
    if failure then
      failures[#failures + 1] = {run, failure}
    elseif text then
      repaired[#repaired + 1] = {run, text}
    end
    write(nil, 'ZADD', active_key(), 'XX', integer(now), run)
  end
  if #due > 0 then
    for _, part in ipairs({audit_queues, audit_reserved}) do
      local failure = attempt(part)
      if failure then failures[#failures + 1] = {'*', failure} end
    end
  end
  return repaired
end
