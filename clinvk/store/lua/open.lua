-- open(run, submitter, message, claim_timeout_ms, once_key, digest)
--   -> {verdict, existing run, digest, admission}
-- The last step of a submit: the tasks are all recorded. What the submitter wrote becomes a run,
-- which it can write no more, and the first of its tasks are dispatched.
--   submitter         the user who asked for it, if it may not act itself, or ''
--   message           the template of its tasks' Celery messages
--   claim_timeout_ms  how long a published task may go unclaimed
--   once_key          the submitter's key for this run, or ''
--   digest            digest of what is submitted
-- With a key that an earlier run has, the verdict is 'taken' and what was submitted is deleted:
-- two submitters with one key pay once. It is 'gone' where there is nothing to open, because it is
-- open already, or was not opened in time.
local submission = submitter .. ':' .. run
local fields = redis.call('HMGET', submission_key(submission), 'queues', 'total', 'lifetime_ms')
if not fields[1] or redis.call('EXISTS', run_key(run)) == 1 then
  return {'gone', '', '', {{}, 0, {}}}
end
local total, lifetime_ms = integer(fields[2]), integer(fields[3])
local queues, lengths = checked_queues(fields[1], MAX_QUEUES), {}
for _, queue in ipairs(queues) do
  lengths[queue] = redis.call('LLEN', submission_pending_key(submission, queue))
end
if submitter ~= '' then
  check_begins(submission, queues, lengths)
  queues = without_unknown(queues)
end
if once_key ~= '' then
  local taken = redis.call('GET', submitted_key(once_key))
  if taken then
    local earlier = cjson.decode(taken)
    if redis.call('EXISTS', run_key(earlier.run)) == 1 then
      discard_submission(submission, queues)
      return {'taken', earlier.run, earlier.digest, {{}, 0, {}}}
    end
  end
  local key = submitted_key(once_key)
  write(taken and {'SET', key, taken, 'PX', lifetime_ms} or {'DEL', key},
        'SET', key, cjson.encode({run = run, digest = digest}), 'PX', lifetime_ms)
end
if redis.call('HLEN', submission_specs_key(submission)) ~= tonumber(total) then
  error('some of its tasks are missing')
end
write({'DEL', message_key(run)}, 'SET', message_key(run), message, 'PX', lifetime_ms)
local created_ms = make_record(run, submission, submitter, queues, total, lifetime_ms)
for _, queue in ipairs(queues) do
  local length = lengths[queue]
  write(nil, 'SADD', queues_key(), queue)
  increment(queue_key(queue), 'waiting', length)
  local limited = limited_ms(queue)
  if limited > 0 then
    write({'HDEL', run_key(run), 'limited:' .. queue},
          'HSET', run_key(run), 'limited:' .. queue, integer(limited))
  end
  touch_queue(queue)
end
write({'ZREM', runs_key(), run}, 'ZADD', runs_key(), created_ms, run)
for _, oldest in ipairs(redis.call('ZRANGE', runs_key(), 0, 9)) do
  if redis.call('EXISTS', run_key(oldest)) == 0 then write(nil, 'ZREM', runs_key(), oldest) end
end
touch_shared(runs_key())
write({'ZREM', active_key(), run}, 'ZADD', active_key(), integer(now_ms()), run)
touch_shared(active_key())
budgets().note(run)
enter_fair_queues(run)
local admission = admit(claim_timeout_ms)
touch(run)
return {'open', '', '', admission}
