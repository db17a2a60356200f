-- aggregate(run) -> 1 if the run is over (now or before), 0 if results are still missing
-- The run's last step, idempotent: the chord's body, the reaper and a cancellation all come here.
--   ARGV[1]  run id
local run = ARGV[1]
local record = redis.call('HMGET', run_key(run), 'state', 'remaining')
if record[1] == 'done' then return 1 end
if not record[1] or tonumber(record[2]) > 0 then return 0 end
even_without_memory()
redis.call('HSET', run_key(run), 'state', 'done', 'ended_ms', now_ms())
redis.call('ZREM', complete_key(), run)
redis.call('XADD', events_key(run), '*', 'kind', 'ended')
touch(run)
return 1
