-- claim(run, index, attempt, worker, lease_ms) -> {verdict, spec, attempts}
-- A worker's first act on a message: may I run this, and what is it?
--   ARGV  run id, task index, attempt, worker name, length of the lease
-- Verdicts:
--   go        yours until the lease runs out; the spec follows, and how often it was begun
--   canceled  the run was canceled before anyone claimed the task
--   stale     another attempt has the task or its result, or the run is gone
local run, index, attempt, worker, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local run_state = redis.call('HGET', run_key(run), 'state')
if run_state == 'canceled' then return {'canceled'} end
local current, state, queue = parse_entry(redis.call('HGET', out_key(run), index))
if run_state ~= 'running' or current ~= attempt or state ~= 'h' then return {'stale'} end
redis.call('HSET', out_key(run), index, attempt .. ':r:' .. queue)
redis.call('ZADD', leases_key(queue), now_ms() + lease_ms, lease_name(run, index, attempt))
redis.call('XADD', events_key(run), '*', 'kind', 'started', 'index', index,
           'attempt', attempt, 'worker', worker)
touch(run)
local losses = tonumber(redis.call('HGET', losses_key(run), index) or 0)
return {'go', redis.call('HGET', specs_key(run), index), losses + 1}
