-- claim(run, index, dispatch, owner, nonce, lease_ms)
--   -> {verdict, spec, attempts, queue, model, waited_ms, rejections, retries, history, earlier,
--       cost left}
-- A worker's first act on a message: may I run this, and what is it?
--   owner     the worker process
--   nonce     one for each message, so that a call can be repeated
--   lease_ms  the length of the lease
-- Verdicts:
--   go        yours until the lease runs out; the spec follows, how often it was begun, which queue
--             it came through, the model to use instead of its own or '', how limits held it up,
--             what earlier executions left for it, what a retry took away (lib/earlier.lua), and
--             what budgets leave for it, in millionths of a dollar, '' without one.
--             Also the answer to the same call again: the first answer may have been lost on the way
--   canceled  the run was canceled before anyone claimed the task
--   unmet     this worker does not meet what the run requires: the task is pending again
--   stale     another dispatch has the task or its result, or the run is gone
local claim = owner .. '/' .. nonce
local run_state = redis.call('HGET', run_key(run), 'state')
local entry = redis.call('HGET', in_flight_key(run), index)
local current, state, queue, claimed = parse_entry(entry)
local is_repeated = current == dispatch and state == 'r' and claimed == claim
if run_state == 'canceled' and not is_repeated then return {'canceled'} end
if not is_repeated and (run_state ~= 'running' or current ~= dispatch or state ~= 'd') then
  return {'stale'}
end

if not is_repeated and record_of(run).requires
    and not requirements().may_run(run, queue, string.match(owner, '^[^/]*'), owner) then
  local waits_in = queue_of_task(run, index)
  begin_wait(run, waits_in, index, tries_of(run, index))
  unpublish(run, index, dispatch, queue, entry, waits_in)
  return {'unmet'}
end

-- Whether tasks of a run may be somewhere else than their specs say.
local function has_routes()
  local record = record_of(run)
  for _, name in ipairs(record.queues) do
    if string.find(name, '|', 1, true) then return true end
  end
  return record.has_tries
end

local spec = redis.call('HGET', specs_key(run), index)
local losses = tonumber(redis.call('HGET', worker_losses_key(run), index) or 0)
if not is_repeated then
  write({'HSET', in_flight_key(run), index, entry},
        'HSET', in_flight_key(run), index, claimed_entry(dispatch, queue, claim))
  write(nil, 'ZADD', leases_key(queue), integer(now_ms() + lease_ms),
        lease_name(run, index, dispatch))
  local event = {'kind', 'started', 'index', index, 'dispatch', dispatch,
                 'worker', string.match(owner, '^[^/]*')}
  if has_routes() then event[9], event[10] = 'backend', string.sub(queue, 8) end
  add_event(run, unpack(event))
  keep(run, events_key(run))
  touch_sometimes(run)
end
local tries = tries_of(run, index)
local history = not tries.is_new and redis.call('HGET', history_key(run), index)
local earlier = record_of(run).has_earlier and redis.call('HGET', earlier_results_key(run), index)
return {'go', spec, losses + 1, queue, tries.model or '', integer(tries.waited_ms), tries.rejections,
        tries.retries, history or '', earlier or '',
        record_of(run).is_budgeted and budgets().cost_left_for(run, queue, index) or ''}
