-- announce(worker, lifetime_ms, entry, claim_timeout_ms) -> admission
-- A worker says that it is there, and what it is; without an entry, that it is gone.
--   ARGV[1]  worker name
--   ARGV[2]  how long this holds
--   ARGV[3]  JSON with at least slots and queues, or ''
--   ARGV[4]  how long a published task may go unclaimed
local name, lifetime_ms, entry = ARGV[1], ARGV[2], ARGV[3]
local now = now_ms()
even_without_memory()
local before = redis.call('GET', worker_key(name))
local expired = redis.call('ZCOUNT', workers_key(), '-inf', now)
if entry == '' then
  redis.call('DEL', worker_key(name))
  redis.call('ZREM', workers_key(), name)
else
  redis.call('SET', worker_key(name), entry, 'PX', lifetime_ms)
  redis.call('ZADD', workers_key(), now + lifetime_ms, name)
  touch_shared(workers_key())
  for _, queue in ipairs(cjson.decode(entry).queues) do
    redis.call('SADD', queues_key(), queue)
  end
  touch_shared(queues_key())
end
if before ~= entry or expired > 0 or redis.call('EXISTS', capacity_key()) == 0 then
  count_capacity(now)
end
touch_shared(capacity_key())
return admit(ARGV[4])
