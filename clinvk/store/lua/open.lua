-- open(run, claim_timeout_ms, submission_key, digest) -> {verdict, existing run, digest, admission}
-- The last step of a submit: the run's tasks are all recorded, dispatch the first of them.
--   claim_timeout_ms  how long a published task may go unclaimed
--   submission_key    the submitter's key for this run, or ''
--   digest            digest of what is submitted
-- With a key that an earlier run has, the verdict is 'taken' and this run is deleted: two
-- submitters with one key pay once.
local record = redis.call('HMGET', run_key(run), 'state', 'lifetime_ms', 'created_ms')
if record[1] ~= 'submitting' then return {'gone', '', '', {{}, 0, {}}} end
local lengths = {}
for _, queue in ipairs(record_of(run).queues) do
  lengths[queue] = redis.call('LLEN', pending_key(run, queue))
end
if submission_key ~= '' then
  local taken = redis.call('GET', submitted_key(submission_key))
  if taken then
    local earlier = cjson.decode(taken)
    if redis.call('EXISTS', run_key(earlier.run)) == 1 then
      for queue in pairs(lengths) do discard(pending_key(run, queue)) end
      for _, key in ipairs({run_key(run), specs_key(run), max_attempts_key(run),
                            message_key(run)}) do
        discard(key)
      end
      return {'taken', earlier.run, earlier.digest, {{}, 0, {}}}
    end
  end
  local key = submitted_key(submission_key)
  write(taken and {'SET', key, taken, 'PX', record[2]} or {'DEL', key},
        'SET', key, cjson.encode({run = run, digest = digest}), 'PX', record[2])
end
write({'HSET', run_key(run), 'state', 'submitting'},
      'HSET', run_key(run), 'state', 'running')
for queue, length in pairs(lengths) do
  write(nil, 'SADD', queues_key(), queue)
  increment(queue_key(queue), 'waiting', length)
  touch_queue(queue)
end
write({'ZREM', runs_key(), run}, 'ZADD', runs_key(), record[3], run)
for _, oldest in ipairs(redis.call('ZRANGE', runs_key(), 0, 9)) do
  if redis.call('EXISTS', run_key(oldest)) == 0 then write(nil, 'ZREM', runs_key(), oldest) end
end
touch_shared(runs_key())
write({'ZREM', active_key(), run}, 'ZADD', active_key(), integer(now_ms()), run)
touch_shared(active_key())
enter_fair_queues(run)
local admission = admit(claim_timeout_ms)
touch(run)
return {'open', '', '', admission}
