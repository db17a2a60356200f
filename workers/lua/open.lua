-- open(run) -> admitted
-- The last step of a submit: the run's tasks are all recorded, let them out.
--   ARGV[1]  run id
local run = ARGV[1]
if redis.call('HGET', run_key(run), 'state') ~= 'submitting' then return {} end
redis.call('HSET', run_key(run), 'state', 'running')
local admitted = admit(run)
touch(run)
return admitted
