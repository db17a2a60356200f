-- limit(queue, source, pairs...) -> 1 if set
-- Set a queue's limits.
--   source  'operator' for somebody who said so, 'config' for a worker's configuration, which
--           never overrides what an operator has set
--   pairs   max_concurrency | interval_ms | rate | paused | paused_until (ms), each followed by its value; an empty
--           value removes the limit
local key = queue_key(queue)
if source == 'config' and redis.call('HGET', key, 'set_by') == 'operator' then return 0 end
for i = 1, #pairs, 2 do
  if pairs[i + 1] == '' then
    remove_field(key, pairs[i])
  else
    set_field(key, pairs[i], pairs[i + 1])
  end
end
set_field(key, 'set_by', source)
write(nil, 'SADD', queues_key(), queue)
touch_queue(queue)
return 1
