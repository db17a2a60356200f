-- retry(run, ticket, submitter, seen_retries, max_parallel, max_cost, max_tokens, allow_unknown,
--       never_started, over_budget, claim_timeout_ms)
--   -> {verdict, position, admission}
-- Run tasks of a run again, each under its next dispatch. Until its new result is in, what it had
-- is in `earlier_results`; see lib/earlier.lua.
--   ticket            of the submission that names the tasks, by index, each with its new spec or ''.
--                     A call with the same ticket is answered again
--   submitter         the user whose submission that is, if it may not act itself, or ''
--   seen_retries      how often the run had been retried when these tasks were chosen
--   max_parallel      the run's from now on; '' leaves it
--   max_cost, max_tokens  the run's budget from now on, for all that it has used and will use; ''
--                     leaves it
--   allow_unknown     '1' lets executions have no known cost from now on
--   never_started     the result of a task that was canceled before it started, with @INDEX@;
--                     over_budget: of one that a budget kept from starting
--   claim_timeout_ms  how long a published task may go unclaimed
-- Verdicts:
--   retried  the position is that of the last event before
--   changed  another retry came first, or a task has no result: choose again
--   ending   the run is canceled, and some of it still runs
--   ordered  an ordered run still goes on: what its later tasks build on would change under them
--   gone     the run, its specs or the submission are not there any more
-- In an ordered run all tasks run again that follow the first of these.
local submission, none = submitter .. ':' .. ticket, {{}, 0, {}}
local fields = redis.call('HMGET', run_key(run), 'state', 'retries', 'last_retry', 'remaining',
                          'ended_ms', 'cancel_reason', 'idle_ms')
local state, retries = fields[1], fields[2] or '0'
local last, last_position = string.match(fields[3] or '', '^(%S+) (%S+)$')
if not state then return {'gone', '', none} end
if last == ticket then return {'retried', last_position, none} end
if retries ~= seen_retries then return {'changed', '', none} end
local is_over = fields[4] == '0'
if not is_over and state == 'canceled' then return {'ending', '', none} end
if not is_over and record_of(run).steps then return {'ordered', '', none} end

local record, was_canceled = record_of(run), fields[6] and true or false
local indexes, specs = named_tasks(run, submission)
if #indexes == 0 or redis.call('EXISTS', message_key(run)) == 0 then return {'gone', '', none} end
if record.steps then
  for place = 1, record.total - indexes[1] do indexes[place] = indexes[1] + place - 1 end
end
local new = {}
for _, index in ipairs(indexes) do
  if redis.call('HEXISTS', specs_key(run), index) == 0 then return {'gone', '', none} end
  if redis.call('HEXISTS', results_key(run), index) == 0 and not was_canceled then
    return {'changed', '', none}
  end
  if (specs[index] or '') ~= '' then new[index] = checked_spec(specs[index], submitter) end
end
if max_parallel ~= '' and tonumber(max_parallel) < 1 then error('max_parallel must be at least 1') end

local newest = redis.call('XREVRANGE', events_key(run), '+', '-', 'COUNT', 1)[1]
local position = newest and newest[1] or '0'
if was_canceled then
  record_never_started(run, indexes, fields[6] == 'budget' and over_budget or never_started)
end
local used = {}
for place, index in ipairs(indexes) do
  local spec = cjson.decode(redis.call('HGET', specs_key(run), index))
  begin_again(run, index, spec.backend)
  if new[index] then
    replace_spec(run, index, specs[index], new[index])
    for _, queue in ipairs(new[index].queues) do used[queue] = true end
  end
  if place == 1 or not record.steps then
    local queue = new[index] and new[index].queues[1] or queue_of_spec(spec)
    make_pending(run, queue, index, 'RPUSH', 'RPOP')
    used[queue] = true
    forget_waits(run, queue, index)
  end
end
for queue in pairs(used) do
  write(nil, 'SADD', queues_key(), queue)
  increment(queue_key(queue), 'waiting', 0)
  touch_queue(queue)
end
increment(run_key(run), 'remaining', #indexes)
increment(run_key(run), 'retries', 1)
set_field(run_key(run), 'last_retry', ticket .. ' ' .. position)
set_field(run_key(run), 'retried_from', indexes[1])
if fields[5] then
  set_field(run_key(run), 'idle_ms', integer((fields[7] or 0) + now_ms() - fields[5]))
  remove_field(run_key(run), 'ended_ms')
end
remove_field(run_key(run), 'cancel_reason')
set_field(run_key(run), 'state', 'running')
if max_parallel ~= '' then
  record.max_parallel = tonumber(max_parallel)
  set_field(run_key(run), 'max_parallel', integer(max_parallel))
  if redis.call('HLEN', in_flight_key(run)) >= record.max_parallel then leave_fair_queues(run) end
end
if max_cost ~= '' or max_tokens ~= '' then budgets().recount_spent(run) end
for name, value in pairs({max_cost = max_cost, max_tokens = max_tokens}) do
  if value ~= '' then
    set_field(run_key(run), name, integer(value))
    record[name] = tonumber(value)
  end
end
if allow_unknown == '1' then
  set_field(run_key(run), 'allow_unknown', '1')
  record.allows_unknown = true
end
for _, name in ipairs({'unpriced', 'budget_of', 'waits_for_budget'}) do
  remove_field(run_key(run), name)
end
record.unpriced, record.waits_for_budget = nil, false
budgets().note(run)
remove_member(complete_key(), run)
if redis.call('ZADD', active_key(), 'NX', integer(now_ms()), run) == 1 then
  note_undo('ZREM', active_key(), run)
end
touch_shared(active_key())
discard(submission_specs_key(submission))
enter_fair_queues(run)
local admission = admit(claim_timeout_ms)
touch(run)
return {'retried', position, admission}
