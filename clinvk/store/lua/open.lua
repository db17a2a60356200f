-- open(run, claim_timeout_ms, run_key, digest) -> {verdict, existing run, existing digest, admission}
-- The last step of a submit: the run's tasks are all recorded, let them out.
--   ARGV[1]  run id
--   ARGV[2]  how long a published task may go unclaimed
--   ARGV[3]  the submitter's key for this run, or ''
--   ARGV[4]  digest of what is submitted
-- With a key that an earlier run has, the verdict is 'taken' and this run is deleted: two
-- submitters with one key pay once.
local run, run_key_name, digest = ARGV[1], ARGV[3], ARGV[4]
if redis.call('HGET', run_key(run), 'state') ~= 'submitting' then return {'gone', '', '', {{}, 0}} end
if run_key_name ~= '' then
  local taken = redis.call('GET', submitted_key(run_key_name))
  if taken then
    local entry = cjson.decode(taken)
    if redis.call('EXISTS', run_key(entry.run)) == 1 then
      for _, queue in ipairs(record_of(run).queues) do redis.call('DEL', pending_key(run, queue)) end
      redis.call('DEL', run_key(run), specs_key(run), max_attempts_key(run), message_key(run))
      return {'taken', entry.run, entry.digest, {{}, 0}}
    end
  end
  redis.call('SET', submitted_key(run_key_name), cjson.encode({run = run, digest = digest}),
             'PX', redis.call('HGET', run_key(run), 'lifetime_ms'))
end
redis.call('HSET', run_key(run), 'state', 'running')
for _, queue in ipairs(record_of(run).queues) do
  redis.call('SADD', queues_key(), queue)
  redis.call('HINCRBY', queue_key(queue), 'waiting', redis.call('LLEN', pending_key(run, queue)))
  touch_queue(queue)
end
redis.call('ZADD', runs_key(), redis.call('HGET', run_key(run), 'created_ms'), run)
for _, oldest in ipairs(redis.call('ZRANGE', runs_key(), 0, 9)) do
  if redis.call('EXISTS', run_key(oldest)) == 0 then redis.call('ZREM', runs_key(), oldest) end
end
touch_shared(runs_key())
enter_rings(run)
local admission = admit(ARGV[2])
touch(run)
return {'open', '', '', admission}
