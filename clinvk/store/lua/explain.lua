-- explain(run)
--   -> {state, remaining, {{worker, running}, ...}, dispatched,
--       {{queue, model, waiting, reason, until_ms, kind, worker}, ...}, now_ms, what it requires}
-- Say what a run waits for: who runs how many of its tasks, how many are dispatched and not
-- claimed, and for each queue how many wait and why. Writes nothing.
-- Reasons: those of why_closed() in lib/admission.lua; 'run' where the run's own max_parallel is
-- reached; 'budget' where one allows no more just now; 'turn' where it is another run's turn; 'held' where tasks are held back until a time.
--   model         the one whose limit it is; '' for that of the whole queue
--   until_ms      until when, 0 where that is not known
--   kind, worker  of a limit of the provider: what it is, and who met it
local MOST_HELD = 1000  -- how many tasks that are held are looked at, one by one
local fields = redis.call('HMGET', run_key(run), 'state', 'remaining', 'requires')
if not fields[1] then return {} end
local running, dispatched, in_flight = {}, 0, redis.call('HVALS', in_flight_key(run))
for _, entry in ipairs(in_flight) do
  local _, state, _, claim = parse_entry(entry)
  if state == 'r' then
    local worker = string.match(claim, '^[^/]*')
    running[worker] = (running[worker] or 0) + 1
  else
    dispatched = dispatched + 1
  end
end
local admission, rows, by_name, workers = new_admission(0), {}, {}, {}
count_free(admission)

local function add(queue, model, count, reason, until_ms, gate)
  local name = table.concat({queue, model, reason}, ' ')
  if not by_name[name] then
    by_name[name] = {queue, model, 0, reason, integer(until_ms or 0), gate and gate.kind or '',
                    gate and gate.worker or ''}
    rows[#rows + 1] = by_name[name]
  end
  by_name[name][3] = by_name[name][3] + count
end

-- Return the gate, of those that are closed of a queue for one or several backends, that opens first.
local function first_gate(queue)
  local first
  for name in string.gmatch(string.sub(queue, 8), '[^|]+') do
    local gate = gate_of('clinvk.' .. name, '')
    if gate and gate.closed_until and not (first and first.closed_until <= gate.closed_until) then
      first = gate
    end
  end
  return first
end

local function add_pending(queue, count)
  local reason = why_closed(queue, admission, run)
                 or (#in_flight >= record_of(run).max_parallel and 'run')
                 or (record_of(run).waits_for_budget and 'budget') or 'turn'
  local gate = reason == 'limited' and first_gate(queue) or nil
  local paused_until = reason == 'paused' and redis.call('HGET', queue_key(queue), 'paused_until')
  add(queue, '', count, reason, gate and gate.closed_until or tonumber(paused_until or 0), gate)
end

local function add_held(index, due_ms, count)
  local queue, model = route_of_task(run, index)
  if not queue then return end
  local gate = model ~= '' and gate_of(queue, model)
  if gate and gate.closed_until then
    add(queue, model, count, 'limited', gate.closed_until, gate)
  elseif why_closed(queue, admission) == 'limited' and first_gate(queue) then
    add_pending(queue, count)
  else
    add(queue, '', count, 'held', due_ms)
  end
end

for _, queue in ipairs(record_of(run).queues) do
  local length = redis.call('LLEN', pending_key(run, queue))
  if length > 0 then add_pending(queue, length) end
end
local held = redis.call('ZRANGE', held_key(run), 0, MOST_HELD - 1, 'WITHSCORES')
local unseen = redis.call('ZCARD', held_key(run)) - #held / 2
for i = 1, #held, 2 do
  add_held(held[i], tonumber(held[i + 1]), i == #held - 1 and unseen + 1 or 1)
end
for worker, count in pairs(running) do workers[#workers + 1] = {worker, count} end
return {fields[1], tonumber(fields[2]), workers, dispatched, rows, now_ms(), fields[3] or ''}
