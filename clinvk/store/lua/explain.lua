-- explain(run)
--   -> {state, remaining, {{worker, running}, ...}, dispatched, {{queue, pending, reason}, ...}}
-- Say what a run waits for: who runs how many of its tasks, how many are dispatched and not
-- claimed, and for each queue how many are pending and why. Writes nothing.
-- Reasons: those of why_closed() in lib/admission.lua; 'run' where the run's own max_parallel is
-- reached; 'turn' where it is another run's turn.
local fields = redis.call('HMGET', run_key(run), 'state', 'remaining')
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
local admission, waiting, workers = new_admission(0), {}, {}
count_free(admission)
for _, queue in ipairs(record_of(run).queues) do
  local length = redis.call('LLEN', pending_key(run, queue))
  if length > 0 then
    local reason = why_closed(queue, admission)
                   or (#in_flight >= record_of(run).max_parallel and 'run') or 'turn'
    waiting[#waiting + 1] = {queue, length, reason}
  end
end
for worker, count in pairs(running) do workers[#workers + 1] = {worker, count} end
return {fields[1], tonumber(fields[2]), workers, dispatched, waiting}
