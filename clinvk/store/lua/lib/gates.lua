-- Gates: what the provider behind a queue allows just now, learned from what it refuses. A gate is
-- JSON in the hash of its queue: `gate` for the whole queue, `gate:<model>` where the limit is the
-- model's. A queue that never met a limit has none, and pays nothing.
--
-- A window limit closes the gate until it opens by itself; then one task, the probe, runs alone. A
-- burst limit cuts how many may be in flight, and the limit in force grows again with success.
-- Signals come late, since a task runs for minutes: each is judged by when its task started, by
-- the server's clock.
--   closed_until   nothing starts before it (ms); after it, only the probe, until that went well
--   closed_ms      when the gate was closed last; first_closed_ms: first, since it was open
--   failed_probes  probes in a row that met the limit again, and resets that were not known
--   probe          the lease of the probe
--   kind, worker, retry_at  what closed it: the kind of limit, who met it, when it opens (ms)
--   limit          how many may be in flight
--   opening        1 after a probe went well: the limit doubles with each success, up to `ceiling`, or up to
--                  half of `level` and then by one with every other success
--   ceiling        the limit as the gate was closed, where there was one: opening ends there
--   level          how many were in flight as the gate was closed
--   successes      since the limit grew last, while opening
--   proven         how many in flight went well since the cut; starts beyond are PACE_MS apart
--   cut_ms, cuts   when the limit was cut last; how often without a success in between
--   grown_ms, step when the limit grew last, and by how much it grows next
--   has_grown      1 once the limit has grown over what a cut left
--   paced_ms       when the next start beyond `proven` may be

local LADDER_MS = {300000, 600000, 1200000, 2400000, 3600000}
local LATE_RESET_MS = 45000
local LATE_RESET_JITTER_MS = 30000
local LONGEST_RESET_MS = 8 * 86400000
-- Before the limit has grown for the first time, nothing is known of the provider's capacity but that
-- it is less. Later the first cut is small, since it mostly follows a probing step; those that follow at
-- once are not, since then the provider's capacity has really shrunk.
local BLIND_CUT = 0.75
local CUTS = {0.98, 0.9, 0.8}
local HOLD_MS = 720000
local GROW_AGAIN_MS = 60000
local GROWTH = 0.25
local PACE_MS = 8000
local PROBE_LOOK_MS = 5000  -- how often to look whether a model's probe has ended

-- The gates that were read in this script are in `gates` (transaction.lua).
local function gate_field(model)
  return model == '' and 'gate' or 'gate:' .. model
end

local function gate_of(queue, model)
  local name = queue .. ' ' .. model
  if gates[name] == nil then
    local text = redis.call('HGET', queue_key(queue), gate_field(model))
    gates[name] = text and cjson.decode(text) or false
  end
  return gates[name]
end

local function save_gate(queue, model, gate)
  gates[queue .. ' ' .. model] = gate
  set_field(queue_key(queue), gate_field(model), cjson.encode(gate))
  if model ~= '' then set_field(queue_key(queue), 'model_gates', '1') end
  touch_shared(queue_key(queue))
end

local function remove_gate(queue, model)
  gates[queue .. ' ' .. model] = false
  remove_field(queue_key(queue), gate_field(model))
end

-- Say whether a gate lets no task start now, and in how many milliseconds it may; 0 where an end
-- of a task is what it waits for.
local function is_gated(queue, gate, in_flight)
  local now = now_ms()
  if gate.closed_until then
    if gate.closed_until > now then return true, gate.closed_until - now end
    return gate.probe and redis.call('ZSCORE', leases_key(queue), gate.probe) and true or false, 0
  end
  if not gate.limit then return false, 0 end
  if in_flight >= gate.limit then return true, 0 end
  if in_flight >= gate.proven and gate.paced_ms > now then return true, gate.paced_ms - now end
  return false, 0
end

-- Take note that a task was dispatched.
local function note_start(queue, model, lease)
  local gate = gate_of(queue, model)
  if not gate then return end
  if gate.closed_until then
    gate.probe = lease
  elseif gate.limit and redis.call('ZCARD', leases_key(queue)) > gate.proven then
    gate.paced_ms = now_ms() + PACE_MS
  else
    return
  end
  save_gate(queue, model, gate)
end

local function close_gate(gate, started_ms, retry_at_ms, in_flight)
  local now = now_ms()
  local is_news = started_ms > (gate.closed_ms or 0)
  local until_ms = gate.closed_until or 0
  if retry_at_ms and retry_at_ms > now and retry_at_ms < now + LONGEST_RESET_MS then
    if until_ms < retry_at_ms + LATE_RESET_MS then
      until_ms = retry_at_ms + LATE_RESET_MS + jitter(LATE_RESET_JITTER_MS)
      gate.retry_at = retry_at_ms
    end
  elseif is_news then
    gate.failed_probes = math.min((gate.failed_probes or 0) + 1, #LADDER_MS)
    until_ms = math.max(until_ms, now + LADDER_MS[gate.failed_probes])
  end
  if is_news then gate.closed_ms, gate.probe = now, nil end
  if not gate.closed_until then gate.first_closed_ms, gate.level = now, in_flight end
  gate.closed_until = math.max(until_ms, now)
end

local function cut_gate(gate, started_ms, in_flight)
  if started_ms <= (gate.cut_ms or 0) then return end
  local now = now_ms()
  gate.cuts = math.min((gate.cuts or 0) + 1, #CUTS)
  local kept = gate.has_grown and CUTS[gate.cuts] or BLIND_CUT
  gate.limit = math.max(1, math.min(in_flight - 1, math.floor(kept * in_flight)))
  gate.proven = gate.cuts == 1 and math.min(gate.proven or gate.limit, gate.limit) - 1 or 0
  gate.cut_ms, gate.grown_ms, gate.step, gate.opening = now, now, 1, nil
  gate.paced_ms = now + PACE_MS
end

-- A task met a limit. `in_flight` counts it.
local function note_limit(queue, model, signal, started_ms, retry_at_ms, kind, worker, in_flight)
  local gate = gate_of(queue, model) or {}
  gate.kind, gate.worker = kind, worker
  if signal == 'window' or model ~= '' then
    close_gate(gate, started_ms, retry_at_ms, in_flight)
  else
    cut_gate(gate, started_ms, in_flight)
  end
  save_gate(queue, model, gate)
  return gate
end

-- Add the time for which a queue's gate has been closed to the sum of it.
local function count_closed(queue, gate)
  if gate.closed_until then
    increment(queue_key(queue), 'limited_ms', now_ms() - gate.first_closed_ms)
  end
end

-- Let two tasks start beside `others`, which are none that the gate has held up, and more with each success.
local function open_gate(gate, others)
  gate.closed_until, gate.probe, gate.failed_probes, gate.retry_at = nil, nil, nil, nil
  gate.opened_ms, gate.opening = now_ms(), 1
  gate.ceiling = gate.limit
  gate.limit = math.min(others + 2, gate.ceiling or math.huge)
  gate.proven, gate.cut_ms = gate.limit, gate.cut_ms or 0
  gate.grown_ms, gate.step, gate.paced_ms = now_ms(), 1, 0
end

-- A model's gate has no limit: the gate of the queue counts what it lets through. Where that has no limit
-- either, it gets one, or all that have waited for the model would start at once.
local function remove_model_gate(queue, model, gate, in_flight)
  remove_gate(queue, model)
  if gate_of(queue, '') then return end
  local opening = {level = gate.level, kind = gate.kind, worker = gate.worker}
  open_gate(opening, in_flight - 1)
  save_gate(queue, '', opening)
end

local function grow_opening_gate(gate, started_ms, in_flight)
  if started_ms < gate.opened_ms then return end
  local safe = gate.ceiling or math.floor((gate.level or 0) / 2)
  gate.successes = (gate.successes or 0) + 1
  if gate.limit < safe then
    gate.limit, gate.successes = math.min(gate.limit * 2, safe), 0
  elseif gate.successes > 1 and in_flight >= gate.limit then
    gate.limit, gate.successes = gate.limit + 1, 0
  end
  gate.proven = gate.limit
  if gate.limit == gate.ceiling then gate.opening = nil end
end

local function grow_gate(gate, started_ms, in_flight)
  local now = now_ms()
  if gate.opening then return grow_opening_gate(gate, started_ms, in_flight) end
  if started_ms <= gate.cut_ms then return end
  gate.cuts = 0
  if in_flight > gate.proven and now - gate.cut_ms > PACE_MS then
    gate.proven = math.min(in_flight, gate.limit)
  end
  local wait_ms = gate.step <= 1 and HOLD_MS or GROW_AGAIN_MS
  if in_flight < gate.limit or now - gate.grown_ms < wait_ms then return end
  gate.grown_ms, gate.has_grown = now, 1
  gate.limit = gate.limit + math.floor(gate.step)
  gate.step = math.min(gate.step * 2, math.max(1, gate.limit * GROWTH))
end

-- A task ended that met no limit. `signal` is 'clean' where that says that the provider served it,
-- 'frozen' where it was overloaded in another way: the limit does not grow then. `in_flight` counts
-- the task; `most` is what the queue could have in flight at all: a limit over that is forgotten.
local function note_end(queue, model, signal, lease, started_ms, in_flight, most)
  local gate = gate_of(queue, model)
  if not gate then return end
  if gate.closed_until then
    if gate.probe ~= lease then return end
    gate.probe = nil
    if signal == 'clean' then
      if model ~= '' then return remove_model_gate(queue, model, gate, in_flight) end
      count_closed(queue, gate)
      open_gate(gate, 0)
    end
  elseif signal == 'frozen' then
    gate.grown_ms = now_ms()
  elseif signal == 'clean' and gate.limit then
    grow_gate(gate, started_ms, in_flight)
    if gate.limit >= most then
      return remove_gate(queue, model)
    end
  end
  save_gate(queue, model, gate)
end

-- Return how many tasks a queue could have in flight: its operator's limit, or the fleet's slots.
local function most_in_flight(queue)
  local limit = redis.call('HGET', queue_key(queue), 'max_concurrency')
  local slots = redis.call('HGET', capacity_key(), queue)
  return math.min(tonumber(limit or math.huge), tonumber(slots or math.huge))
end

-- Return a text that is another one when a gate has closed, or opens later, and every few seconds while
-- one should have opened, '' while none is closed; and when the last of them opens (ms).
local GATES_LOOK_MS = 5000
local function state_of_gates()
  local closed, latest = {}, now_ms()
  local function add(name, text)
    local closed_until = text and cjson.decode(text).closed_until
    if not closed_until then return end
    latest = math.max(latest, closed_until)
    local is_due = closed_until <= now_ms()
    closed[#closed + 1] = name .. ' ' .. integer(is_due and math.floor(now_ms() / GATES_LOOK_MS)
                                                 or closed_until)
  end
  for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
    local fields = redis.call('HMGET', queue_key(queue), 'gate', 'model_gates')
    add(queue, fields[1])
    for _, field in ipairs(fields[2] and redis.call('HKEYS', queue_key(queue)) or {}) do
      if string.sub(field, 1, 5) == 'gate:' then
        add(queue .. ' ' .. field, redis.call('HGET', queue_key(queue), field))
      end
    end
  end
  table.sort(closed)
  return table.concat(closed, ','), latest
end
