-- finish(run, index, dispatch, status, result, claim_timeout_ms, queue...)
--   -> {recorded, is_last, unpublished, {index...}, admission, {queue, message}}
-- Record a task's result once, fenced by the dispatch; free its slot; let the next ones out, in
-- an ordered run the one that follows.
-- A failure in a fail-fast run cancels the run in the same step, so that nothing new starts
-- after it: unpublished and the indexes are then those of cancel.
--   ARGV  run id, task index, dispatch, status (a counter of the run's record), result (JSON),
--         how long a published task may go unclaimed, and the queues that the freed slot serves
-- The last value is the message of the first of these queues that has one, taken out of it as a
-- worker would take it; {} where there is none, and where recorded is 0.
-- is_last is 1 where no result is missing any more: the chord is complete.
-- recorded is 0 where the dispatch no longer owns the task: the result is dropped. Recording the
-- same result again changes nothing: the answer may have been lost on the way.
local run, index, dispatch, status, result = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local current, _, queue = parse_entry(redis.call('HGET', out_key(run), index))
if current ~= dispatch then
  local is_recorded = redis.call('HGET', results_key(run), index) == result
  return {is_recorded and 1 or 0, 0, 0, {}, {{}, 0}, {}}
end
even_without_memory()
redis.call('HDEL', out_key(run), index)
redis.call('ZREM', leases_key(queue), lease_name(run, index, dispatch))
redis.call('HSET', results_key(run), index, result)
keep(run, results_key(run))
redis.call('XADD', events_key(run), '*', 'kind', 'finished', 'index', index,
           'dispatch', dispatch)
keep(run, events_key(run))
settle(run, status, 1)
local taken = {0, {}}
if status ~= 'ok' and record_of(run).fail_fast then
  taken = cancel(run, 'fail_fast')
end
if redis.call('HGET', run_key(run), 'state') == 'running' then
  let_follow(run, tonumber(index))
  enter_rings(run)
end
local admission = admit(ARGV[6])
touch_sometimes(run)
local is_last = redis.call('HGET', run_key(run), 'remaining') == '0'
local message = {}
for i = 7, #ARGV do
  local head = redis.call('RPOP', ARGV[i])
  if head then
    message = {ARGV[i], head}
    break
  end
end
return {1, is_last and 1 or 0, taken[1], taken[2], admission, message}
