-- release(owner, lease...) -> number of leases given up
-- A worker process says, or somebody who saw its end says for it, that nothing runs any more
-- under these leases: whoever reaps next may hand the tasks out again at once.
--   ARGV[1]   worker process
--   ARGV[2..] leases; without any, all that it holds
local owner, count = ARGV[1], 0

local function give_up(lease, queue)
  local run, index, dispatch = parse_lease(lease)
  local current, state, _, claim = parse_entry(redis.call('HGET', out_key(run), index))
  if current == dispatch and state == 'r' and is_owned_by(claim, owner) then
    redis.call('ZADD', leases_key(queue), 'XX', 0, lease)
    count = count + 1
  end
end

even_without_memory()
for _, queue in ipairs(redis.call('SMEMBERS', queues_key())) do
  if #ARGV == 1 then
    for _, lease in ipairs(redis.call('ZRANGE', leases_key(queue), 0, -1)) do
      give_up(lease, queue)
    end
  end
  for i = 2, #ARGV do
    if redis.call('ZSCORE', leases_key(queue), ARGV[i]) then give_up(ARGV[i], queue) end
  end
end
return count
