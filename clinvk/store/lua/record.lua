-- record(run, lifetime_ms, first, {index, queue, limit, spec}...) -> 1, or 0 if they are there
-- Record some of a run's tasks, in order, before the run is opened.
--   ARGV[1]   run id
--   ARGV[2]   how long they stay when the run is never opened
--   ARGV[3]   '1' in an ordered run: only its first task is pending, others follow its end
--   ARGV[4..] for each task its index, its Celery queue, its own limit of losses or '', and the
--             encoded TaskSpec
-- Asked again, because an answer was lost, it changes nothing: a task that is pending twice would
-- run twice.
local run, lifetime_ms = ARGV[1], ARGV[2]
if redis.call('HEXISTS', specs_key(run), ARGV[4]) == 1 then return 0 end
local queues = {}
for i = 4, #ARGV, 4 do
  local index, queue, limit, spec = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  redis.call('HSET', specs_key(run), index, spec)
  if limit ~= '' then redis.call('HSET', max_attempts_key(run), index, limit) end
  if ARGV[3] ~= '1' or index == '0' then
    redis.call('RPUSH', pending_key(run, queue), index)
    queues[queue] = true
  end
end
redis.call('PEXPIRE', specs_key(run), lifetime_ms)
redis.call('PEXPIRE', max_attempts_key(run), lifetime_ms)
for queue in pairs(queues) do redis.call('PEXPIRE', pending_key(run, queue), lifetime_ms) end
return 1
