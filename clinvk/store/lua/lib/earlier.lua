-- Earlier results. A retry takes the result of a task away and keeps it in `earlier_results`, as
-- "<backend>:<TaskResult>", until the task has a new one: whoever shows the run shows the earlier one
-- so long, and who runs the task gets it (claim.lua), because the new result says what was tried
-- before. A cancellation gives it back to tasks that have not begun again.

-- Say which counter of a run a result counts for.
local function status_of(result)
  return string.match(result, '^{"v":%d+,"index":%d+,"status":"(%l+)"')
         or cjson.decode(result).status
end

-- Return a result without what stands before it in `earlier_results`.
local function without_backend(entry)
  return string.sub(entry, string.find(entry, ':', 1, true) + 1)
end

-- Return the tasks that a retry names, in order, and what it gives as their specs.
local function named_tasks(run, submission)
  local indexes, specs = {}, {}
  local given = redis.call('HGETALL', submission_specs_key(submission))
  for i = 1, #given, 2 do
    local index = tonumber(integer(given[i]))
    if index < 0 or index >= record_of(run).total then
      error('run ' .. run .. ' has no task ' .. given[i])
    end
    indexes[#indexes + 1], specs[index] = index, given[i + 1]
  end
  table.sort(indexes)
  return indexes, specs
end

-- Read a new spec for what the store needs of it: its queue, those of its fallbacks, and for how long
-- and how often it may be tried.
local function checked_spec(text, submitter)
  local spec = cjson.decode(text)
  local queues = {queue_of_spec(spec)}
  for _, entry in ipairs(spec.fallback or {}) do
    queues[#queues + 1] = 'clinvk.' .. string.match(entry, '^[^:]*')
  end
  check_queues(queues)
  if submitter ~= '' then
    check_known({queues[1]})
    queues = without_unknown(queues)
  end
  return {queues = queues, max_wait_seconds = spec.max_wait_seconds,
          max_attempts = spec.on_worker_lost == 'fail' and 1 or spec.max_attempts}
end

-- Add what a new spec changes in the record of its run.
local function replace_in_record(run, index, spec)
  local record, known = record_of(run), {}
  for _, queue in ipairs(record.queues) do known[queue] = true end
  local before = #record.queues
  for _, queue in ipairs(spec.queues) do
    if not known[queue] then record.queues[#record.queues + 1] = queue end
    known[queue] = true
  end
  if #record.queues > MAX_QUEUES then error('too many queues') end
  if #record.queues > before then set_field(run_key(run), 'queues', cjson.encode(record.queues)) end
  if record.steps then
    record.steps[index + 1] = spec.queues[1]
    set_field(run_key(run), 'steps', cjson.encode(record.steps))
  end
  if spec.max_wait_seconds then
    record.max_wait_ms = math.floor(math.min(record.max_wait_ms or math.huge,
                                             spec.max_wait_seconds * 1000))
    set_field(run_key(run), 'max_wait_ms', integer(record.max_wait_ms))
  end
end

local function replace_spec(run, index, text, spec)
  replace_in_record(run, index, spec)
  set_field(specs_key(run), index, text)
  if spec.max_attempts then
    set_field(max_attempts_key(run), index, integer(spec.max_attempts))
    keep(run, max_attempts_key(run))
  else
    remove_field(max_attempts_key(run), index)
  end
end

-- Give those tasks of a canceled run a result that have none and are not to run: in a running run a
-- task without one is to run.
local function record_never_started(run, indexes, never_started)
  local is_named = {}
  for _, index in ipairs(indexes) do is_named[index] = true end
  for index = 0, record_of(run).total - 1 do
    if not is_named[index] and redis.call('HEXISTS', results_key(run), index) == 0 then
      local result = string.gsub(never_started, '@INDEX@', integer(index))
      write({'HDEL', results_key(run), index}, 'HSET', results_key(run), index, result)
    end
  end
  keep(run, results_key(run))
end

-- Let a task begin again, as if it had never run, but for its number of dispatches. `backend` is the
-- one that it had.
local function begin_again(run, index, backend)
  local result = redis.call('HGET', results_key(run), index)
  local status = 'canceled'
  if result then
    status = status_of(result)
    write({'HSET', results_key(run), index, result}, 'HDEL', results_key(run), index)
    set_field(earlier_results_key(run), index, backend .. ':' .. result)
    if not record_of(run).has_earlier then
      set_field(run_key(run), 'has_earlier', '1')
      record_of(run).has_earlier = true
    end
    keep(run, earlier_results_key(run))
  end
  increment(run_key(run), status, -1)
  increment(dispatches_key(run), index, 1)
  keep(run, dispatches_key(run))
  remove_field(tries_key(run), index)
  remove_field(history_key(run), index)
  remove_field(worker_losses_key(run), index)
  add_event(run, 'kind', 'retried', 'index', index)
end

-- Whether a canceled run gives back earlier results. In an ordered run the inputs of later tasks have
-- changed once the first has begun.
local function gives_back(run)
  if not record_of(run).steps then return true end
  local first = redis.call('HGET', run_key(run), 'retried_from')
  return redis.call('HEXISTS', in_flight_key(run), first) == 0
         and redis.call('HEXISTS', results_key(run), first) == 0
end

-- Give tasks that are not in flight the results back that a retry took; returns how many, by status.
local function give_back_earlier(run)
  local counts, key = {}, earlier_results_key(run)
  if not record_of(run).has_earlier or not gives_back(run) then return counts end
  for _, index in ipairs(redis.call('HKEYS', key)) do
    if redis.call('HEXISTS', in_flight_key(run), index) == 0
        and redis.call('HEXISTS', results_key(run), index) == 0 then
      local entry = redis.call('HGET', key, index)
      local result = without_backend(entry)
      local status = status_of(result)
      write({'HDEL', results_key(run), index}, 'HSET', results_key(run), index, result)
      write({'HSET', key, index, entry}, 'HDEL', key, index)
      counts[status] = (counts[status] or 0) + 1
    end
  end
  keep(run, results_key(run))
  return counts
end
