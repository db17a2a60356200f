-- claim(run, index, dispatch, owner, nonce, lease_ms) -> {verdict, spec, attempts}
-- A worker's first act on a message: may I run this, and what is it?
--   ARGV  run id, task index, dispatch, worker process, this call of it, length of the lease
-- Verdicts:
--   go        yours until the lease runs out; the spec follows, and how often it was begun. Also
--             the answer to the same call again: the first answer may have been lost on the way
--   canceled  the run was canceled before anyone claimed the task
--   stale     another dispatch has the task or its result, or the run is gone
local run, index, dispatch, owner, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[6]
local claim = owner .. '/' .. ARGV[5]
local run_state = redis.call('HGET', run_key(run), 'state')
local current, state, queue, claimed = parse_entry(redis.call('HGET', out_key(run), index))
local is_repeated = current == dispatch and state == 'r' and claimed == claim
if run_state == 'canceled' and not is_repeated then return {'canceled'} end
if not is_repeated then
  if run_state ~= 'running' or current ~= dispatch or state ~= 'h' then return {'stale'} end
  redis.call('HSET', out_key(run), index, dispatch .. ':r:' .. queue .. ':' .. claim)
  redis.call('ZADD', leases_key(queue), now_ms() + lease_ms, lease_name(run, index, dispatch))
  redis.call('XADD', events_key(run), '*', 'kind', 'started', 'index', index,
             'dispatch', dispatch, 'worker', string.match(owner, '^[^/]*'))
  keep(run, events_key(run))
  touch_sometimes(run)
end
local losses = tonumber(redis.call('HGET', worker_losses_key(run), index) or 0)
return {'go', redis.call('HGET', specs_key(run), index), losses + 1}
