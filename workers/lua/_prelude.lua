-- Loaded in front of every verb. The functions *_key come from workers/kernel.py, the only
-- place that knows how keys are named. Time is always the server's.
--
-- An entry of `out` reads "<attempt>:<state>:<queue>"; the state is
--   h  handed out: published, or about to be; no worker has claimed it
--   r  running: a worker claimed it and holds its lease

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function lease_name(run, index, attempt)
  return run .. ':' .. index .. ':' .. attempt
end

-- Start the lifetime of all keys of a run anew.
local function touch(run)
  local record = redis.call('HMGET', run_key(run), 'lifetime_ms', 'queues')
  if not record[1] then return end
  for _, key in ipairs({run_key(run), specs_key(run), results_key(run), events_key(run),
                        out_key(run), attempts_key(run), losses_key(run)}) do
    redis.call('PEXPIRE', key, record[1])
  end
  for _, queue in ipairs(cjson.decode(record[2])) do
    redis.call('PEXPIRE', pending_key(run, queue), record[1])
  end
end

-- The shared keys outlive their last use by a day.
local function touch_shared(key)
  redis.call('PEXPIRE', key, 86400000)
end

-- Hand out the next tasks of a run through its window: in task order, while fewer than
-- max_parallel are out. Returns {{index, attempt, queue}, ...} for the caller to publish.
local function admit(run)
  local record = redis.call('HMGET', run_key(run), 'state', 'max_parallel', 'queues',
                            'handout_ms')
  local admitted = {}
  if record[1] ~= 'running' then return admitted end
  local free = tonumber(record[2]) - redis.call('HLEN', out_key(run))
  if free <= 0 then return admitted end
  local queues = cjson.decode(record[3])
  local deadline_ms = now_ms() + tonumber(record[4])
  while free > 0 do
    local first, from
    for _, queue in ipairs(queues) do
      local head = tonumber(redis.call('LINDEX', pending_key(run, queue), 0))
      if head and (not first or head < first) then
        first, from = head, queue
      end
    end
    if not first then break end
    redis.call('LPOP', pending_key(run, from))
    local attempt = 1 + (tonumber(redis.call('HGET', attempts_key(run), first)) or 0)
    redis.call('HSET', out_key(run), first, attempt .. ':h:' .. from)
    redis.call('ZADD', leases_key(), deadline_ms, lease_name(run, first, attempt))
    admitted[#admitted + 1] = {first, attempt, from}
    free = free - 1
  end
  if #admitted > 0 then touch_shared(leases_key()) end
  return admitted
end

-- Note that `count` more tasks of a run have their result; the last one makes it complete,
-- which the reaper watches in case the chord's body is lost.
local function settle(run, field, count)
  redis.call('HINCRBY', run_key(run), field, count)
  if redis.call('HINCRBY', run_key(run), 'remaining', -count) == 0 then
    redis.call('ZADD', complete_key(), now_ms(), run)
    touch_shared(complete_key())
  end
end

-- Cancel a run: take back all that no worker has claimed, and mark the run so that workers
-- stop what they run of it. Returns {number taken back before they were published,
-- {index, ...} of those published and not claimed}.
local function cancel(run, reason)
  if redis.call('HGET', run_key(run), 'state') ~= 'running' then return {0, {}} end
  redis.call('HSET', run_key(run), 'state', 'canceled', 'cancel_reason', reason)
  local unpublished = 0
  for _, queue in ipairs(cjson.decode(redis.call('HGET', run_key(run), 'queues'))) do
    unpublished = unpublished + redis.call('LLEN', pending_key(run, queue))
    redis.call('DEL', pending_key(run, queue))
  end
  local published = {}
  local out = redis.call('HGETALL', out_key(run))
  for i = 1, #out, 2 do
    local attempt, state = string.match(out[i + 1], '^(%d+):(%a):')
    if state == 'h' then
      redis.call('HDEL', out_key(run), out[i])
      redis.call('ZREM', leases_key(), lease_name(run, out[i], attempt))
      published[#published + 1] = tonumber(out[i])
    end
  end
  redis.call('XADD', events_key(run), '*', 'kind', 'canceled')
  redis.call('XADD', signals_key(), 'MAXLEN', '~', 10000, '*', 'canceled', run)
  touch_shared(signals_key())
  if unpublished + #published > 0 then
    settle(run, 'canceled', unpublished + #published)
  end
  return {unpublished, published}
end
