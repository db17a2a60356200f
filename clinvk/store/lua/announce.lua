-- announce(worker, lifetime_ms, entry, claim_timeout_ms) -> admission
-- A worker says that it is there, and what it is; without an entry, that it is gone.
--   worker            its name
--   lifetime_ms       how long this holds
--   entry             JSON with at least slots and queues, or ''
--   claim_timeout_ms  how long a published task may go unclaimed
local now = now_ms()
local queues = entry ~= '' and cjson.decode(entry).queues or {}
even_without_memory()
local before = redis.call('GET', worker_key(worker))
local expired = redis.call('ZCOUNT', workers_key(), '-inf', now)
local inverse = before and {'SET', worker_key(worker), before, 'PX', lifetime_ms}
                or {'DEL', worker_key(worker)}
if entry == '' then
  write(inverse, 'DEL', worker_key(worker))
  remove_member(workers_key(), worker)
  remove_worker_queue(worker)
else
  write(inverse, 'SET', worker_key(worker), entry, 'PX', lifetime_ms)
  local until_ms = redis.call('ZSCORE', workers_key(), worker)
  write(until_ms and {'ZADD', workers_key(), until_ms, worker} or {'ZREM', workers_key(), worker},
        'ZADD', workers_key(), integer(now + lifetime_ms), worker)
  touch_shared(workers_key())
  for _, queue in ipairs(queues) do write(nil, 'SADD', queues_key(), queue) end
  touch_shared(queues_key())
end
if before ~= entry or expired > 0 or redis.call('EXISTS', capacity_key()) == 0 then
  count_capacity(now)
end
touch_shared(capacity_key())
return admit(claim_timeout_ms)
