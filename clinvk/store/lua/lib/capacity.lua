-- The fleet's slots: over all, and for each queue those of the workers that serve it.

local function slots_of_live_workers(now)
  write(nil, 'ZREMRANGEBYSCORE', workers_key(), '-inf', integer(now))
  local slots = {['*'] = 0}
  for _, name in ipairs(redis.call('ZRANGE', workers_key(), 0, -1)) do
    local entry = redis.call('GET', worker_key(name))
    if entry then
      local worker = cjson.decode(entry)
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
