-- record(submission, lifetime_ms, is_ordered, tasks...) -> 1, or 0 if they are there
-- Record some of the tasks of a submission, in order, before its run is opened.
--   submission   "<submitter>:<run>"
--   lifetime_ms  how long they stay when the run is never opened
--   is_ordered   '1' where only the run's first task is pending, others follow its end
--   tasks        for each task its index, its Celery queue, its own max_attempts or '', and the
--                encoded TaskSpec
-- Asked again, because an answer was lost, it changes nothing: a task that is pending twice would
-- run twice.
local specs, attempts = submission_specs_key(submission), submission_max_attempts_key(submission)
if redis.call('HEXISTS', specs, tasks[1]) == 1 then return 0 end
local pending = {}
for i = 1, #tasks, 4 do
  local index, queue, max_attempts, spec = tasks[i], tasks[i + 1], tasks[i + 2], tasks[i + 3]
  write({'HDEL', specs, index}, 'HSET', specs, index, spec)
  if max_attempts ~= '' then
    write({'HDEL', attempts, index}, 'HSET', attempts, index, integer(max_attempts))
  end
  if is_ordered ~= '1' or index == '0' then
    local key = submission_pending_key(submission, queue)
    write({'RPOP', key}, 'RPUSH', key, index)
    pending[key] = true
  end
end
redis.call('PEXPIRE', specs, lifetime_ms)
redis.call('PEXPIRE', attempts, lifetime_ms)
for key in pairs(pending) do redis.call('PEXPIRE', key, lifetime_ms) end
return 1
