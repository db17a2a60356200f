-- limit(queue, source, field, value, ...) -> 1 if set
-- Set a queue's limits; an empty value takes one away.
--   ARGV[1]  queue
--   ARGV[2]  'operator' for somebody who said so, 'config' for a worker's configuration, which
--            never overrides what an operator has set
--   ARGV[3..] pairs of max_concurrency | interval_ms | rate | paused and value
local queue, source = ARGV[1], ARGV[2]
if source == 'config' and redis.call('HGET', queue_key(queue), 'set_by') == 'operator' then
  return 0
end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', queue_key(queue), ARGV[i])
  else
    redis.call('HSET', queue_key(queue), ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', queue_key(queue), 'set_by', source)
redis.call('SADD', queues_key(), queue)
touch_queue(queue)
return 1
