-- finish(run, index, dispatch, status, signal, result, used_model, spent, claim_timeout_ms, queues...)
--   -> {recorded, is_last, unpublished, {index...}, admission, {queue, message}}
-- Record a task's result once, fenced by the dispatch; free its slot; dispatch the next tasks, in
-- an ordered run the one that follows. A failure in a fail-fast run cancels the run in the same
-- step, so that nothing new starts after it: unpublished and the indexes are then those of cancel.
--   status            a counter of the run's record
--   signal            what its end says of the provider's limits, see note_end() in lib/gates.lua;
--                     '' for nothing
--   result            JSON
--   used_model        the model that ran, or ''
--   spent             what the execution used, see lib/ledger.lua; '' for nothing
--   claim_timeout_ms  how long a published task may go unclaimed
--   queues            those that the freed slot serves
-- The last value is the message of the first of these queues that has one, taken out of it as a
-- worker would take it; {} where there is none, and where recorded is 0.
-- is_last is 1 where no result is missing any more: the chord is complete.
-- recorded is 0 where the dispatch no longer owns the task: the result is dropped. Recording the
-- same result again changes nothing: the answer may have been lost on the way.
local entry = redis.call('HGET', in_flight_key(run), index)
local current, _, queue, _, started_ms = parse_entry(entry)

-- A server that lost its last moments, or a replica that took over while it was behind, may know
-- nothing of a dispatch that was made, and has its task pending. Its result counts all the same.
local function take_from_pending()
  local known = tonumber(redis.call('HGET', dispatches_key(run), index) or 0)
  if current or tonumber(dispatch) <= known then return false end
  if redis.call('HGET', run_key(run), 'state') ~= 'running' then return false end
  queue = queue_of_task(run, index)
  return queue ~= nil and take_waiting(run, queue, index)
end

if current == dispatch then
  even_without_memory()
  local lease = lease_name(run, index, dispatch)
  note_end_of(run, index, queue, signal, lease, started_ms)
  write({'HSET', in_flight_key(run), index, entry}, 'HDEL', in_flight_key(run), index)
  write({'ZADD', leases_key(queue), integer(now_ms() + claim_timeout_ms), lease},
        'ZREM', leases_key(queue), lease)
elseif not take_from_pending() then
  local is_recorded = redis.call('HGET', results_key(run), index) == result
  return {is_recorded and 1 or 0, 0, 0, {}, {{}, 0, {}}, {}}
else
  set_field(dispatches_key(run), index, integer(dispatch - 1))  -- a retry counts on from here
  keep(run, dispatches_key(run))
end
write({'HDEL', results_key(run), index}, 'HSET', results_key(run), index, result)
keep(run, results_key(run))
if record_of(run).has_earlier then remove_field(earlier_results_key(run), index) end
add_event(run, 'kind', 'finished', 'index', index, 'dispatch', dispatch)
keep(run, events_key(run))
record_completion(run, status, 1)
charge(run, index, queue, used_model, spent)
settle(run, index, queue, used_model, spent, false, status == 'ok')
local taken_back = {0, {}}
if status ~= 'ok' and record_of(run).fail_fast then
  taken_back = cancel(run, 'fail_fast')
end
if redis.call('HGET', run_key(run), 'state') == 'running' then
  let_follow(run, tonumber(index))
  local is_budgeted = record_of(run).is_budgeted
  if is_budgeted then taken_back = end_at_budget(run) end
  if not is_budgeted or redis.call('HGET', run_key(run), 'state') == 'running' then
    enter_fair_queues(run)
  end
end
local admission = admit(claim_timeout_ms)
touch_sometimes(run)
local is_last = redis.call('HGET', run_key(run), 'remaining') == '0'
local message = {}
for _, served in ipairs(queues) do
  local head = redis.call('RPOP', served)
  if head then
    note_undo('RPUSH', served, head)
    message = {served, head}
    break
  end
end
return {1, is_last and 1 or 0, taken_back[1], taken_back[2], admission, message}
