-- aggregate(run) -> 1 if the run is over (now or before), 0 if results are still missing
-- Close a run: its last step, idempotent. The chord's body, the reaper and a cancellation all
-- come here.
local record = redis.call('HMGET', run_key(run), 'state', 'remaining')
if record[1] == 'done' then return 1 end
if not record[1] or tonumber(record[2]) > 0 then return 0 end
even_without_memory()
write({'HSET', run_key(run), 'state', record[1]}, 'HSET', run_key(run), 'state', 'done')
write({'HDEL', run_key(run), 'ended_ms'},
      'HSET', run_key(run), 'ended_ms', integer(now_ms()))
if record_of(run).has_earlier then
  discard(earlier_results_key(run))
  remove_field(run_key(run), 'has_earlier')
end
remove_member(complete_key(), run)
remove_member(active_key(), run)
add_event(run, 'kind', 'ended', 'retries', redis.call('HGET', run_key(run), 'retries') or '0')
touch(run)
return 1
