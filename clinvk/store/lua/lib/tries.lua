-- How a task was tried so far, where it was put back: JSON in `tries`, by its index.
--   waited_ms   how long limits have held it up, without what goes on now
--   since_ms    since when a limit holds it up now, or will, or 0
--   rejections  how often a limit refused it
--   retries     how often it was tried again for another reason, where it is now
--   held        the dispatch that was put back last; until_ms: when it was to go on then
--   queue, model  where it waits now and for which model, if not as its spec says
--   worker      the only one that can go on with it; missing_ms: since when it is not there
--   limited_ms  of a task that began again (retry.lua), or whose worker was lost: see below
--
-- A task that was never put back waits as long as its queue's gate is closed. The queue's hash has the
-- sum of that in `limited_ms`, and a run's record what it was when the run was opened; where a task
-- became pending again later, its own entry has what it was then. A run of which
-- no task was ever put back or held up has no `has_tries` in its record, and pays for none of this.

local function tries_of(run, index)
  local entry = record_of(run).has_tries and redis.call('HGET', tries_key(run), index)
  if entry then return cjson.decode(entry) end
  return {waited_ms = 0, since_ms = 0, rejections = 0, retries = 0, is_new = true}
end

local function save_tries(run, index, tries)
  if tries.is_new then
    set_field(run_key(run), 'has_tries', '1')
    record_of(run).has_tries = true
  end
  tries.is_new = nil
  if tries.since_ms > 0 then tries.limited_ms = nil end
  set_field(tries_key(run), index, cjson.encode(tries))
  keep(run, tries_key(run))
end

-- Return for how long a queue's gate has been closed in all, up to now.
local function limited_ms(queue)
  local gate = gate_of(queue, '')
  local before = tonumber(redis.call('HGET', queue_key(queue), 'limited_ms') or 0)
  if not (gate and gate.closed_until) then return before end
  return before + now_ms() - gate.first_closed_ms
end

local function limited_ms_at_opening(run, queue)
  return tonumber(redis.call('HGET', run_key(run), 'limited:' .. queue) or 0)
end

-- Return how long limits have held up a task that is not running, up to now.
local function held_up_ms(run, queue, tries)
  if not (tries.is_new or tries.limited_ms) then
    return tries.waited_ms + (tries.since_ms > 0 and math.max(0, now_ms() - tries.since_ms) or 0)
  end
  local at_beginning = tries.limited_ms or limited_ms_at_opening(run, queue)
  return tries.waited_ms + math.max(0, limited_ms(queue) - at_beginning)
end

-- Let a task that is pending again wait from now on, as long as its queue's gate is closed.
local function begin_wait(run, queue, index, tries)
  local limited = limited_ms(queue)
  if tries.is_new and limited <= limited_ms_at_opening(run, queue) then return end
  tries.since_ms, tries.limited_ms = 0, limited
  save_tries(run, index, tries)
end

-- Let what held a task up before it began again not count.
local function forget_waits(run, queue, index)
  begin_wait(run, queue, index,
             {waited_ms = 0, since_ms = 0, rejections = 0, retries = 0, is_new = true})
end

-- Take note that a task waits no longer; returns how it was tried.
local function end_wait(run, queue, index)
  local tries = tries_of(run, index)
  local waited = held_up_ms(run, queue, tries)
  if waited ~= tries.waited_ms or tries.since_ms ~= 0 or tries.limited_ms then
    tries.waited_ms, tries.since_ms, tries.limited_ms = waited, 0, nil
    save_tries(run, index, tries)
  end
  return tries
end

local function queue_of_spec(spec)
  local names = {spec.backend}
  for _, other in ipairs(spec.alternatives or {}) do names[#names + 1] = other end
  return 'clinvk.' .. table.concat(names, '|')
end

-- Return the queue that a task waits in, and the model that it is for or ''; nil where its spec is
-- gone.
local function route_of_task(run, index)
  local tries = tries_of(run, index)
  if tries.queue then return tries.queue, tries.model or '' end
  local text = redis.call('HGET', specs_key(run), index)
  if not text then return nil end
  local spec = cjson.decode(text)
  return queue_of_spec(spec), spec.model or ''
end

local function queue_of_task(run, index)
  local queue = route_of_task(run, index)
  return queue
end

-- Let the gates of a queue know of the end of a task that met no limit; see note_end().
local function note_end_of(run, index, queue, signal, lease, started_ms)
  if not started_ms then return end
  local state = redis.call('HMGET', queue_key(queue), 'gate', 'model_gates')
  if not (state[1] or state[2]) then return end
  local in_flight, most = redis.call('ZCARD', leases_key(queue)), most_in_flight(queue)
  if state[1] then note_end(queue, '', signal, lease, started_ms, in_flight, most) end
  if state[2] then
    local _, model = route_of_task(run, index)
    if model and model ~= '' then note_end(queue, model, signal, lease, started_ms, in_flight, most) end
  end
end
