-- The fleet's slots: over all, and for each queue those of the workers that serve it.

-- Remove the queue of a worker's own: what nobody takes from it any more is published again elsewhere.
local function remove_worker_queue(worker)
  write(nil, 'DEL', worker_queue(worker))
end

local function slots_of_live_workers(now)
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', workers_key(), '-inf', integer(now))) do
    remove_worker_queue(gone)
  end
  write(nil, 'ZREMRANGEBYSCORE', workers_key(), '-inf', integer(now))
  local slots = {['*'] = 0}
  for _, name in ipairs(redis.call('ZRANGE', workers_key(), 0, -1)) do
    local worker = worker_entry(redis.call('GET', worker_key(name)))
    if worker then
      slots['*'] = slots['*'] + worker.slots
      for _, queue in ipairs(worker.queues) do
        slots[queue] = (slots[queue] or 0) + worker.slots
      end
    end
  end
  return slots
end

local function count_capacity(now)
  local slots = slots_of_live_workers(now)
  for _, queue in ipairs(redis.call('HKEYS', capacity_key())) do
    if not slots[queue] then remove_field(capacity_key(), queue) end
  end
  for queue, count in pairs(slots) do
    set_field(capacity_key(), queue, integer(count))
  end
  touch_shared(capacity_key())
end
