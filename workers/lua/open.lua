-- open(run, handout_ms, run_key, digest) -> {verdict, existing run, existing digest, admission}
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
      for _, queue in ipairs(queues_of(run)) do redis.call('DEL', pending_key(run, queue)) end
      redis.call('DEL', run_key(run), specs_key(run), limits_key(run), message_key(run))
      return {'taken', entry.run, entry.digest, {{}, 0}}
    end
  end
  redis.call('SET', submitted_key(run_key_name), cjson.encode({run = run, digest = digest}),
             'PX', redis.call('HGET', run_key(run), 'lifetime_ms'))
end
redis.call('HSET', run_key(run), 'state', 'running')
for _, queue in ipairs(queues_of(run)) do
  redis.call('SADD', queues_key(), queue)
  redis.call('HINCRBY', queue_key(queue), 'waiting', redis.call('LLEN', pending_key(run, queue)))
  touch_queue(queue)
end
local record = redis.call('HMGET', run_key(run), 'created_ms', 'lifetime_ms')
redis.call('ZADD', runs_key(), record[1], run)
redis.call('ZREMRANGEBYSCORE', runs_key(), '-inf', now_ms() - record[2])
redis.call('PEXPIRE', runs_key(), record[2])
enter_rings(run)
local admission = admit(ARGV[2])
touch(run)
return {'open', '', '', admission}
