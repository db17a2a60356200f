-- record(run, lifetime_ms, is_ordered, tasks...) -> 1, or 0 if they are there
-- Record some of a run's tasks, in order, before the run is opened.
--   lifetime_ms  how long they stay when the run is never opened
--   is_ordered   '1' where only the run's first task is pending, others follow its end
--   tasks        for each task its index, its Celery queue, its own max_attempts or '', and the
--                encoded TaskSpec
-- Asked again, because an answer was lost, it changes nothing: a task that is pending twice would
-- run twice.
if redis.call('HEXISTS', specs_key(run), tasks[1]) == 1 then return 0 end
local pending = {}
for i = 1, #tasks, 4 do
  local index, queue, max_attempts, spec = tasks[i], tasks[i + 1], tasks[i + 2], tasks[i + 3]
  write({'HDEL', specs_key(run), index}, 'HSET', specs_key(run), index, spec)
  if max_attempts ~= '' then
    write({'HDEL', max_attempts_key(run), index},
          'HSET', max_attempts_key(run), index, integer(max_attempts))
  end
  if is_ordered ~= '1' or index == '0' then
    write({'RPOP', pending_key(run, queue)}, 'RPUSH', pending_key(run, queue), index)
    pending[queue] = true
  end
end
redis.call('PEXPIRE', specs_key(run), lifetime_ms)
redis.call('PEXPIRE', max_attempts_key(run), lifetime_ms)
for queue in pairs(pending) do redis.call('PEXPIRE', pending_key(run, queue), lifetime_ms) end
return 1
